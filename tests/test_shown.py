"""A notebook shows: stored outputs and pictures are counted, and what may not be stored is looked for."""

import json
import shutil
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from show import KINDS, PLOTLY, ROOT, faults, is_visible, kept_outputs, show

FOLDERS = sorted(p for p in (ROOT / "nbs").iterdir() if p.name[:1].isdigit())
# glue of files, processes and command lines: pytest is their honest form, there is nothing to look at
PLUMBING = {
    "00_foundation/01_files", "00_foundation/02_folders", "00_foundation/03_processes", "00_foundation/04_seals",
    "00_foundation/05_lines", "00_foundation/09_foreign", "00_foundation/10_moved",
    "15_sim/03_libero_files", "15_sim/04_libero_pro", "20_demos/02_journal",
}
SHARE = 0.3  # stored outputs over visible cells that are not exported


def read(path: Path) -> NotebookNode:
    return nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


NOTEBOOKS = [p for p in sorted((ROOT / "nbs").rglob("*.ipynb")) if not any(part[0] in "._" for part in p.parts[1:])]
LIBRARY = [p for p in NOTEBOOKS if p.parent in FOLDERS and name_of(p) not in PLUMBING]


SHELVES = [p for p in NOTEBOOKS if p.parent.name in ("benchmarks", "tutorials", "experiments")]
RUN_FOR_HOURS = {"experiments/phases", "experiments/smolvla_arms", "experiments/answer"}  # and no table of theirs is shown


def shown(notebook: NotebookNode) -> tuple[int, int, int]:
    """Visible cells, those of them with an output, and pictures."""
    cells = [cell for cell in notebook.cells if is_visible(cell)]
    pictures = [o for cell in cells for o in cell.outputs if "image/png" in o.get("data", {})]
    return len(cells), sum(bool(cell.outputs) for cell in cells), len(pictures)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_a_folder_shows(folder):
    counts = {name_of(p): shown(read(p)) for p in LIBRARY if p.parent == folder}
    assert [name for name, (_, outputs, _) in counts.items() if not outputs] == [], "these show nothing"
    if counts:
        cells, outputs, pictures = map(sum, zip(*counts.values(), strict=True))
        assert outputs >= SHARE * cells, f"{outputs} outputs in {cells} visible cells: {counts}"
        assert pictures, "no picture in the whole folder: draw what can be seen, then `make show`"


@pytest.mark.parametrize("path", [p for p in SHELVES if name_of(p) not in RUN_FOR_HOURS], ids=name_of)
def test_what_is_run_with_parameters_shows_an_example_or_what_was_measured_last(path):
    assert shown(read(path))[1]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_every_figure_is_seen_without_plotly(path):
    kinds = [set(o.data) for cell in read(path).cells for o in cell.get("outputs", []) if "data" in o]
    assert all(kind & {*KINDS} for kind in kinds if PLOTLY in kind), "`make show` draws a picture beside it"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_what_is_stored_is_the_same_everywhere(path):
    assert faults(read(path)) == [], "neither errors, nor stderr, nor places on a machine, nor addresses: `make show` says which"


def test_all_notebooks_together_stay_small():
    assert sum(p.stat().st_size for p in NOTEBOOKS) <= 12_000_000


def test_plumbing_and_folders_to_come_exist():
    assert PLUMBING <= {name_of(p) for p in NOTEBOOKS}


@pytest.mark.parametrize("name", ["12_toy/01_environment", pytest.param("10_data/09_windows", marks=pytest.mark.slow)])
def test_shown_again_it_is_the_same(name, tmp_path):
    source = ROOT / f"nbs/{name}.ipynb"
    (tmp_path / source.parent.name).mkdir()
    copy = Path(shutil.copy(source, tmp_path / name.split("/")[0]))
    assert show(copy) == ""
    assert json.loads(copy.read_text(encoding="utf-8")) == json.loads(source.read_text(encoding="utf-8"))


def test_a_fault_would_be_seen():
    cell = lambda output, source="x": nbformat.v4.new_code_cell(source, outputs=[output])
    stream = lambda text, name="stdout": nbformat.v4.new_output("stream", text=text, name=name)
    wrong = [stream("in /tmp/tmpab12"), stream("<object object at 0x7f12ab34cd>"), stream("busy", "stderr"),
             nbformat.v4.new_output("error", ename="E", evalue="e", traceback=[])]
    assert all(len(faults(nbformat.v4.new_notebook(cells=[cell(output)]))) == 1 for output in wrong)
    assert faults(nbformat.v4.new_notebook(cells=[cell(stream("3 frames at 10 Hz"))])) == []
    assert kept_outputs(cell(stream("3"), "#| hide\nx")) == [] != kept_outputs(cell(stream("3")))
