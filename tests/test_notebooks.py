"""Notebooks as plain Jupyter runs them, which knows nothing of nbdev's flags."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted(p for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
READ_BY_NBDEV_ALONE = re.compile(r"^#\|\s*(?!(default_exp|exports?|hide)\b)\w", re.M)


def lessons(path: Path) -> list[str]:
    """Source of the code cells that are not exported."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return [source for source in sources if not re.search(r"^#\|\s*exports?\b", source, re.M)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: str(p.relative_to(ROOT / "nbs").with_suffix("")))
def test_no_lesson_is_left_out_by_a_flag(path):
    flags = [found[0] for source in lessons(path) if (found := READ_BY_NBDEV_ALONE.search(source))]
    assert flags == [], "ask in code (torch.cuda.is_available(), wmvla.runs.slow_lessons): Jupyter reads no flags"


def test_a_flag_would_be_seen():
    """Guards the guard."""
    assert all(READ_BY_NBDEV_ALONE.search(f"#| {flag}\nx = 1") for flag in ("slow", "cuda", "notest", "eval: false"))
    assert not any(READ_BY_NBDEV_ALONE.search(f"#| {flag}\nx = 1") for flag in ("hide", "export", "default_exp core"))


@pytest.mark.parametrize("name", ["10_data/*_windows", pytest.param("45_train/*_machine", marks=pytest.mark.slow)])
def test_a_notebook_with_such_lessons_runs_from_top_to_bottom(name, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("WMVLA_SLOW", raising=False)
    (path,) = (ROOT / "nbs").glob(f"{name}.ipynb")
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
