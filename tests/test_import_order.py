"""The number of a notebook is its place in the dependency order: a module imports lower numbers only."""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOP = ("plugin", "view.dashboards", "cli")  # nothing imports these: they are where the house opens to its users
Order = tuple[int, str]


def order_of(notebook: Path) -> Order:
    """`98a_demo.ipynb` -> (98, "a"), which comes after (98, "")."""
    number = re.match(r"(\d+)([a-z]?)_", notebook.name)
    assert number, f"{notebook.name} exports a module, so its name must start with a number, as in 10_data.episodes.ipynb"
    return int(number[1]), number[2]


def exported_module(notebook: Path) -> str | None:
    """The `default_exp` of a notebook."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code" and (found := re.search(r"^#\|\s*default_exp\s+(\S+)", "".join(cell["source"]), re.M)):
            return found[1]
    return None


def numbers(nbs: Path) -> dict[str, Order]:
    """Module name (without `wmvla.`) -> number, over the notebooks that export."""
    return {module: order_of(path) for path in sorted(nbs.glob("*.ipynb")) if (module := exported_module(path))}


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
    """One sentence for every import that points to an equal or higher number, or at something that nothing may import."""
    order, bad = numbers(nbs), []
    for path in sorted(package.rglob("*.py")):
        if path.name == "_modidx.py":
            continue
        is_package = path.name == "__init__.py"
        module = ".".join(path.relative_to(package).with_suffix("").parts[: -1 if is_package else None])
        imported = imports_of(path.read_text(encoding="utf-8"), module, is_package, set(order))
        if not is_package and module not in order:
            bad.append(f"{module} has no notebook")
            continue
        for target in sorted(imported):
            inside = module.split(".")[0] == target.split(".")[0] == "plugin"
            if not inside and any(target == top or target.startswith(f"{top}.") for top in TOP):
                bad.append(f"{module} imports {target}, which nothing may import")
            elif is_package or order[target] >= order[module]:
                bad.append(f"{module} imports {target}, which does not have a lower number")
    return bad


def test_package_follows_the_numbers():
    assert numbers(ROOT / "nbs"), "no notebook exports anything"
    assert violations(ROOT / "nbs", ROOT / "wmvla") == []


@pytest.fixture
def house(tmp_path):
    """A package of six rooms in good order, and a way to write one more import into it."""
    for notebook in ("00_core", "10_data.a", "20_sim.b", "98_grid", "98a_demo", "99_cli"):
        module = notebook.partition("_")[2]
        cells = [{"cell_type": "code", "source": [f"#| default_exp {module}\n"]}]
        (tmp_path / "nbs").mkdir(exist_ok=True)
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
        ("demo", "from wmvla import grid"),
        ("demo", "import os.path, wmvla.data.a as a"),
        ("cli", "def f():\n    from .demo import main"),
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
        ("core", "from . import grid", "core imports grid"),
        ("grid", "import wmvla.demo", "grid imports demo"),
        ("sim.b", "def f():\n    from wmvla.demo import x", "sim.b imports demo"),
        ("sim.__init__", "from .b import x", "sim imports sim.b"),
        ("__init__", "from .core import x", " imports core"),
        ("demo", "from .cli import main", "cli, which nothing may import"),
        ("stray", "", "stray has no notebook"),
    ],
)
def test_planted_violations_are_found(house, module, line, said):
    assert [v for v in house(module, line) if said in v], "the planted violation went unseen"


def test_imports_that_are_meant_are_counted():
    """Guards the guard: on the real package the walk sees imports at all."""
    order = numbers(ROOT / "nbs")
    seen = [imports_of((ROOT / "wmvla" / (m.replace(".", "/") + ".py")).read_text(), m, False, set(order)) for m in order]
    assert len(order) < 2 or any(seen)
