"""A public name stands in one module: whoever looks it up finds one thing."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent


def public(source: str) -> list[str]:
    """The names in a module's `__all__`."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return []


def owners(package: Path) -> dict[str, list[str]]:
    """Public name -> the modules that define it; a package's `__init__` may export again what its rooms define."""
    found = defaultdict(list)
    for path in sorted(package.rglob("*.py")):
        if path.name not in ("_modidx.py", "__init__.py"):
            for name in public(path.read_text(encoding="utf-8")):
                found[name].append(".".join(path.relative_to(package).with_suffix("").parts))
    return found


def test_a_public_name_stands_in_one_module():
    found = owners(ROOT / "wmvla")
    assert len(found) > 1000
    assert {name: modules for name, modules in found.items() if len(modules) > 1} == {}


def test_a_second_one_would_be_seen(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text("__all__ = ['compare']\ndef compare(): pass\n")
    assert owners(tmp_path) == {"compare": ["one", "two"]}
