"""Folder and number of a notebook are its place in the dependency order: a module imports only what stands before it."""

import ast
import json
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
Order = tuple[str, str]
# a package -> the packages that may import it; where the house opens to its users, nothing else looks in
DOORS = {
    "plugin": ("smolvla", "lab", "studies", "cli", "dashboards"),
    "smolvla": ("lab", "studies", "cli", "dashboards"),
    "dashboards": ("lab", "studies", "cli"),
    "studies": ("cli",),
    "cli": (),
}


def order_of(notebook: Path) -> Order:
    """`10_data/06_episodes.ipynb` -> ("10_data", "06"): folders first, then the notebooks in one."""
    folder, number = re.match(r"\d+_\w+$", notebook.parent.name), re.match(r"\d+[a-z]?(?=_)", notebook.name)
    assert folder and number, f"{notebook} exports a module, so it is named like 10_data/06_episodes.ipynb"
    return folder[0], number[0]


def exported_module(notebook: Path) -> str | None:
    """The `default_exp` of a notebook."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code" and (found := re.search(r"^#\|\s*default_exp\s+(\S+)", "".join(cell["source"]), re.M)):
            return found[1]
    return None


def notebooks(nbs: Path) -> dict[str, Path]:
    """Module name (without `wmvla.`) -> its notebook, over the notebooks that export."""
    paths = (p for p in sorted(nbs.rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts)
    return {module: path for path in paths if (module := exported_module(path))}


def imports_of(source: str, module: str, is_package: bool, known: set[str]) -> set[str]:
    """The modules of this package that `module` imports anywhere in its source, inside functions too."""
    found = set()
    parts = [part for part in module.split(".") if part]
    package = parts if is_package else parts[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = ["wmvla", *package][: len(package) + 2 - node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            targets = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        found |= {t.removeprefix("wmvla.") for t in targets if t.startswith("wmvla.")} & known
    return found


def violations(nbs: Path, package: Path) -> list[str]:
    """One sentence for every import that points to a later room, or through a door that is not its own."""
    order, bad = {module: order_of(path) for module, path in notebooks(nbs).items()}, []
    for path in sorted(package.rglob("*.py")):
        if path.name == "_modidx.py":
            continue
        parts, inits = path.relative_to(package).with_suffix("").parts, path.name == "__init__.py"
        module = ".".join(parts)
        is_package = inits and module not in order
        imported = imports_of(path.read_text(encoding="utf-8"), ".".join(parts[:-1]) if inits else module, inits, set(order))
        if not is_package and module not in order:
            bad.append(f"{module} has no notebook")
            continue
        if module == "__init__":
            imported -= {"moved"}  # the table of old paths, which imports nothing
        for target in sorted(imported - {module}):
            room, other = module.partition(".")[0], target.partition(".")[0]
            if room != other and room not in DOORS.get(other, (room,)):
                bad.append(f"{module} imports {target}, which nothing but {', '.join(DOORS[other]) or 'the user'} may import")
            elif is_package or order[target] >= order[module]:
                bad.append(f"{module} imports {target}, which does not stand before it")
    return bad


def crowded(nbs: Path, most: int = 13) -> list[str]:
    """Folders that are two concepts: with more than `most` notebooks, or with modules of two packages."""
    rooms = defaultdict(list)
    for module, path in notebooks(nbs).items():
        rooms[path.parent.name].append(module.rpartition(".")[0])
    return [folder for folder, packages in rooms.items() if len(packages) > most or len(set(packages)) > 1]


def test_package_follows_the_numbers():
    assert notebooks(ROOT / "nbs"), "no notebook exports anything"
    assert violations(ROOT / "nbs", ROOT / "wmvla") == []


def test_one_folder_is_one_package_is_one_concept():
    assert crowded(ROOT / "nbs") == []


HOUSE = ("00_foundation/00_core", "10_data/00_a", "15_sim/00_b", "80_plugin/00_p", "90_studies/00_grid", "90_studies/01_demo")
HOUSE = (*HOUSE, "95_cli/00_main")


@pytest.fixture
def house(tmp_path):
    """A package of seven rooms in good order, and a way to write one more import into it."""
    for notebook in HOUSE:
        folder, name = (part.partition("_")[2] for part in notebook.split("/"))
        module = name if folder == "foundation" else f"{folder}.{name}"
        cells = [{"cell_type": "code", "source": [f"#| default_exp {module}\n"]}]
        (tmp_path / "nbs" / notebook).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"nbs/{notebook}.ipynb").write_text(json.dumps({"cells": cells}))
        target = tmp_path / "wmvla" / (module.replace(".", "/") + ".py")
        target.parent.mkdir(parents=True, exist_ok=True)
        (target.parent / "__init__.py").touch()
        target.write_text("import json\n")

    def found(module: str, line: str) -> list[str]:
        path = tmp_path / "wmvla" / (module.replace(".", "/") + ".py")
        path.write_text(line + "\n")
        return violations(tmp_path / "nbs", tmp_path / "wmvla")

    return found


@pytest.mark.parametrize(
    "module, line",
    [
        ("sim.b", "from wmvla.data.a import x"),
        ("sim.b", "from ..core import x"),
        ("sim.b", "from .. import core"),
        ("studies.demo", "from wmvla.studies import grid"),
        ("studies.demo", "import os.path, wmvla.data.a as a"),
        ("studies.demo", "from wmvla.plugin.p import x"),
        ("cli.main", "def f():\n    from ..studies.demo import main"),
    ],
)
def test_downward_imports_pass(house, module, line):
    assert house(module, line) == []


@pytest.mark.parametrize(
    "module, line, said",
    [
        ("data.a", "from wmvla.sim.b import x", "data.a imports sim.b"),
        ("data.a", "from ..sim.b import x", "data.a imports sim.b"),
        ("data.a", "from wmvla.sim import b", "data.a imports sim.b"),
        ("data.a", "from ..sim import b", "data.a imports sim.b"),
        ("core", "from .data import a", "core imports data.a"),
        ("studies.grid", "import wmvla.studies.demo", "studies.grid imports studies.demo, which does not stand before it"),
        ("sim.b", "def f():\n    from wmvla.studies.demo import x", "studies.demo, which nothing but cli may import"),
        ("sim.b", "from wmvla.plugin.p import x", "plugin.p, which nothing but smolvla, lab,"),
        ("sim.__init__", "from .b import x", "sim.__init__ imports sim.b"),
        ("__init__", "from .core import x", "__init__ imports core"),
        ("studies.demo", "from ..cli.main import main", "cli.main, which nothing but the user may import"),
        ("stray", "", "stray has no notebook"),
    ],
)
def test_planted_violations_are_found(house, module, line, said):
    assert [v for v in house(module, line) if said in v], "the planted violation went unseen"


def test_a_drawer_is_found(house, tmp_path):
    for i in range(13):
        cells = [{"cell_type": "code", "source": [f"#| default_exp data.m{i}\n"]}]
        (tmp_path / f"nbs/10_data/{i + 1:02d}_m{i}.ipynb").write_text(json.dumps({"cells": cells}))
    cells = [{"cell_type": "code", "source": ["#| default_exp other.b\n"]}]
    (tmp_path / "nbs/15_sim/01_b.ipynb").write_text(json.dumps({"cells": cells}))
    assert crowded(tmp_path / "nbs") == ["10_data", "15_sim"]


def test_imports_that_are_meant_are_counted():
    """Guards the guard: on the real package the walk sees imports at all."""
    known = set(notebooks(ROOT / "nbs"))
    seen = [imports_of((ROOT / "wmvla" / (m.replace(".", "/") + ".py")).read_text(), m, False, known) for m in known]
    assert sum(map(bool, seen)) > 100
