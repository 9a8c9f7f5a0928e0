"""The size of exported cells is the best single sign of literate code: the hard limits of the house."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted(p for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
MODULES = sorted(p for p in (ROOT / "wmvla").rglob("*.py") if p.name != "_modidx.py")


def exported_sizes(notebook: dict) -> list[int]:
    """Non-blank lines of every exported cell, without its leading `#|` lines."""
    sizes = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and re.match(r"(\s*#\|.*\n)*\s*#\|\s*exports?\b", source):
            sizes.append(sum(bool(line.strip()) and not line.lstrip().startswith("#|") for line in source.splitlines()))
    return sizes


def p90(sizes: list[int]) -> int:
    """The size that nine cells in ten do not exceed."""
    return sorted(sizes)[min(len(sizes) - 1, int(0.9 * len(sizes)))]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: str(p.relative_to(ROOT / "nbs").with_suffix("")))
def test_notebook(path):
    assert path.stat().st_size <= 400_000, "over 400 kB: clear its outputs or make its pictures smaller"
    sizes = exported_sizes(json.loads(path.read_text(encoding="utf-8")))
    if sizes:
        assert max(sizes) <= 60, f"an exported cell has {max(sizes)} lines; split it"
        assert p90(sizes) <= 30, f"the longest exported cells have {sorted(sizes)[-5:]} lines; at most 1 in 10 may pass 30"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: ".".join(p.relative_to(ROOT).with_suffix("").parts))
def test_module(path):
    # nbdev's own marker above each cell is not ours to count
    lines = sum(not line.startswith("# %%") for line in path.read_text(encoding="utf-8").splitlines())
    assert lines <= 300, f"{lines} lines: this file is two rooms"


def test_the_counter_counts():
    cell = lambda source, kind="code": {"cell_type": kind, "source": source}
    notebook = {
        "cells": [
            cell("#| export\n\ndef f():\n    return 1\n"),
            cell("#| hide\n#| export\nx = 1"),
            cell(["#|export\n", "a = 1\n", "\n", "b = 2\n", "c = 3\n"]),
            cell("y = 2  # not exported\nz = 3"),
            cell("#| export", "markdown"),
        ]
    }
    assert exported_sizes(notebook) == [2, 1, 3]
    assert p90([1, 2, 3, 4, 5, 6, 7, 8, 9, 100]) == 100 and p90(list(range(20))) == 18
