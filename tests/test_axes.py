"""One axis, one name: every axis in a signature stands in the glossary, the table in `nbs/00_foundation/00_core.ipynb`."""

import ast
import json
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
KINDS = re.compile(r"(Float|Int|UInt|Bool|Complex|Shaped|Num|Integer|Inexact|Real|BFloat)\d*$")


def glossary() -> list[str]:
    """The names of the table's first column."""
    cells = json.loads((ROOT / "nbs/00_foundation/00_core.ipynb").read_text(encoding="utf-8"))["cells"]
    (table,) = ("".join(cell["source"]) for cell in cells if "| axis | meaning |" in "".join(cell["source"]))
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`(\w+)`", row)]


def shapes(source: str) -> list[tuple[int, str]]:
    """The (line, shape) of every jaxtyping annotation, `Float[Tensor, "b t d"]`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Subscript) and KINDS.match(ast.unparse(node.value).split(".")[-1]):
            *_, shape = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            if isinstance(shape, ast.Constant) and isinstance(shape.value, str): found.append((node.lineno, shape.value))
    return found


def undefined_axes(source: str, known: list[str]) -> list[str]:
    """`line: axis in "shape"` for every named axis that is not `known`; sizes, `_`, `...` and `{computed}` sizes have no name."""
    return [f'{line}: {axis} in "{shape}"' for line, shape in shapes(source)
            for axis in re.findall(r"(?<![\w{])[A-Za-z]\w*(?!\w*})", shape) if axis not in known]


def test_every_axis_stands_in_the_glossary():
    known, files = glossary(), sorted((ROOT / "wmvla").rglob("*.py"))
    found = [f"{path.relative_to(ROOT)}:{said}" for path in files for said in undefined_axes(path.read_text("utf-8"), known)]
    assert found == []
    assert sum(len(shapes(path.read_text("utf-8"))) for path in files) > 800


def test_the_glossary_has_no_name_twice_and_none_that_nobody_uses():
    known = glossary()
    used = {axis for path in (ROOT / "wmvla").rglob("*.py") for _, shape in shapes(path.read_text("utf-8"))
            for axis in re.findall(r"[A-Za-z]\w*", shape)}
    assert sorted(known) == sorted(set(known)) and sorted(set(known) - used) == []


def test_a_letter_that_nobody_defined_would_be_seen():
    planted = 'def f(x: Float[Tensor, "b t z"], y: Int64[np.ndarray, " *q"], z: UInt8[Tensor, "b {side} 3 _ ..."]): pass'
    assert undefined_axes(planted, ["b", "t"]) == ['1: z in "b t z"', '1: q in " *q"']
