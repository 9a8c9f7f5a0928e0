"""`make show`: run notebooks and store what their lessons show, so that a page can be read without running it.

A notebook runs in a temporary folder, on the CPU with one thread, its own checkout first on the path. Stored are the outputs of
visible lessons: no progress bars, no hidden or exported cells, pictures without metadata and in at most 256 colours. What would
differ from run to run or is too large is refused by name, and the notebook stays as it was. A picture is drawn beside every
plotly figure and every card of the lab, by Chromium, because GitHub shows neither. A notebook with cells tagged `committed` runs
these alone: they read what was measured before, where measuring takes hours.
"""

import argparse
import base64
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

ROOT = Path(__file__).parent.parent
MOST = 400_000  # bytes of a notebook with its outputs
KINDS = ("image/png", "image/jpeg")
PLOTLY, LASTING = "application/vnd.plotly.v1+json", "committed"  # kind of output; tag of a cell
DRAW = "f => Plotly.toImage(f, {format: 'png', width: f.layout.width || 640, height: f.layout.height || 400})"
STYLE = """figure.dpi: 80
figure.figsize: 6, 2.6
font.size: 9
axes.titlesize: 10
axes.spines.top: False
axes.spines.right: False
legend.frameon: False
"""  # of matplotlib, for stored pictures
QUIET = {"PYTHONPATH": str(ROOT), "IN_TEST": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
UNSTEADY = re.compile(r"\bat 0x[0-9a-f]{6,}|/tmp/|/home/|/root/|site-packages|Traceback \(most recent")
HIDDEN = re.compile(r"^#\|\s*(hide|exports?|default_exp)\b", re.M)


def is_visible(cell: NotebookNode) -> bool:
    """A code cell that a reader sees and that is not exported."""
    return cell["cell_type"] == "code" and not HIDDEN.search("".join(cell["source"]))


def run_cells(notebook: NotebookNode, where: Path, allow_errors: bool = False) -> None:
    """Run a notebook in place with `where` as its working folder, without the cells that tests skip too."""
    from nbdev.config import get_config

    skipped = re.compile(rf"^#\|\s*({'|'.join(get_config().tst_flags.split())})\b", re.M)
    lasting = [cell for cell in notebook.cells if LASTING in cell.metadata.get("tags", [])]
    kept = [cell for cell in lasting or notebook.cells if cell.cell_type != "code" or not skipped.search(cell.source)]
    running = NotebookNode({**notebook, "cells": kept})  # shares its cells, so the outputs appear in `notebook`
    resources = {"metadata": {"path": where}}
    options = {"kernel_name": "python3", "timeout": 600, "coalesce_streams": True, "allow_errors": allow_errors}
    options["extra_arguments"] = ["--IPKernelApp.log_level=40"]
    NotebookClient(running, resources=resources, **options).execute()


def smaller(png: str) -> str:
    """A picture without metadata and in at most 256 colours, as base64."""
    from PIL import Image

    picture, stored = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"), io.BytesIO()
    picture.quantize(256, dither=Image.Dither.NONE).save(stored, "PNG", optimize=True)
    return base64.b64encode(stored.getvalue()).decode()


def kept_outputs(cell: NotebookNode) -> list[NotebookNode]:
    """The outputs of a cell that are for readers."""
    kept = [output for output in cell.outputs if output.get("name") != "stderr"] if is_visible(cell) else []
    for data in (output["data"] for output in kept if "data" in output):
        if "image/png" in data: data["image/png"] = smaller(data["image/png"])
    return kept


def draw_figures(figures: list[NotebookNode]) -> list[str]:
    """PNG of plotly figures as base64, drawn by Chromium (Debian's, else playwright's own)."""
    from playwright.sync_api import sync_playwright
    from plotly.offline import get_plotlyjs

    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"] * (os.geteuid() == 0))
        page = browser.new_page()
        page.add_script_tag(content=get_plotlyjs())
        drawn = [page.evaluate(DRAW, {key: figure[key] for key in ("data", "layout")}) for figure in figures]
        browser.close()
    return [picture.partition(",")[2] for picture in drawn]


def photographed(png: str) -> str:
    """The picture as a smaller JPEG: where frames of film are in it, a PNG is four times as large."""
    from PIL import Image

    picture, stored = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"), io.BytesIO()
    picture.thumbnail((480, 480))
    picture.save(stored, "JPEG", quality=50, optimize=True)
    return base64.b64encode(stored.getvalue()).decode()


def beside_plotly(notebook: NotebookNode) -> None:
    """Add a picture to every plotly figure of a notebook: a JPEG where it holds frames, else a PNG."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", []) if PLOTLY in output.get("data", {})]
    pictures = draw_figures([output["data"][PLOTLY] for output in outputs]) if outputs else []
    for data, picture in zip((output["data"] for output in outputs), pictures, strict=True):
        for kind in KINDS: data.pop(kind, None)
        if data[PLOTLY]["layout"].get("images"): data["image/jpeg"] = photographed(picture)
        else: data["image/png"] = smaller(picture)


def draw_pages(pages: list[str]) -> list[str]:
    """Pictures of pieces of HTML as base64, drawn by Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"] * (os.geteuid() == 0))
        page, drawn = browser.new_page(viewport={"width": 900, "height": 400}), []
        for text in pages:
            page.set_content(f'<body style="margin:8px;background:white">{text}</body>', wait_until="load")
            drawn.append(base64.b64encode(page.screenshot(full_page=True)).decode())
        browser.close()
    return drawn


def beside_cards(notebook: NotebookNode) -> None:
    """Add a picture to what shows itself as HTML with pictures in it, as the lab's cards do: GitHub shows the picture."""
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", []) if "<svg" in o.get("data", {}).get("text/html", "")
               or "<img" in o.get("data", {}).get("text/html", "")]
    cards = [o["data"] for o in outputs if PLOTLY not in o["data"] and not set(KINDS) & set(o["data"])]
    for data, picture in zip(cards, draw_pages([d["text/html"] for d in cards]) if cards else [], strict=True):
        data["image/png"] = smaller(picture)


def said(output: NotebookNode) -> str:
    """All text of an output."""
    parts = [output.get("text", ""), *(text for kind, text in sorted(output.get("data", {}).items()) if kind.startswith("text"))]
    return "\n".join("".join(part) for part in parts)


def faults(notebook: NotebookNode) -> list[str]:
    """What may not be stored: errors, stderr, places on a machine, addresses of objects."""
    found = []
    for number, cell in enumerate(notebook["cells"]):
        for output in cell.get("outputs", []):
            text = UNSTEADY.search(said(output))
            if output["output_type"] == "error" or output.get("name") == "stderr" or text:
                found.append(f"cell {number} shows {text[0] if text else output.get('name', 'an error')!r}")
    return found


def unlike(old: NotebookNode, new: NotebookNode) -> bool:
    """Do two runs of a cell show something else, counters, addresses and the fonts of a browser aside?"""
    drawn = lambda data: str(data[PLOTLY]) if PLOTLY in data else "" if "text/html" in data else data.get("image/png", "").strip()
    plain = lambda cell: [re.sub(r" at 0x\w+", "", said(o)) + drawn(o.get("data", {})) for o in cell.get("outputs", [])]
    return plain(old) != plain(new)


def clean(path: Path) -> None:
    """nbdev_clean of one notebook, as it stands in the tree."""
    subprocess.run([Path(sys.executable).with_name("nbdev_clean"), "--fname", path], check=True, cwd=ROOT)


def show(path: Path, check: bool = False) -> str:
    """Run one notebook and store its outputs, or `check` that these are stored; what went wrong, empty where all is well."""
    os.environ.update(QUIET)
    notebook, before = (nbformat.read(path, as_version=4) for _ in range(2))
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder) if path.parent.name[:1].isdigit() else ROOT / "nbs"  # studies read and write runs
        os.environ["MATPLOTLIBRC"] = f"{folder}/matplotlibrc"
        Path(os.environ["MATPLOTLIBRC"]).write_text(STYLE, encoding="utf-8")
        try: run_cells(notebook, where)
        except CellExecutionError as error: return re.sub(r"\x1b\[[\d;]*m", "", str(error)).strip()
    for cell in notebook.cells:
        if cell.cell_type == "code": cell.outputs = kept_outputs(cell)
    notebook.metadata.pop("widgets", None)  # progress bars
    beside_plotly(notebook)
    beside_cards(notebook)
    wrong = faults(notebook)
    if (size := len(text := nbformat.writes(notebook))) > MOST:
        wrong.append(f"{size:,} bytes, over {MOST:,}: fewer or smaller pictures")
    if check:
        differ = [str(n) for n, (old, new) in enumerate(zip(before.cells, notebook.cells, strict=True)) if unlike(old, new)]
        wrong += [f"cells {', '.join(differ)} show something else than is stored"] * bool(differ)
    elif not wrong:
        path.write_text(text, encoding="utf-8")
        clean(path)
    return "; ".join(wrong)


def notebooks(names: list[str]) -> list[Path]:
    """The notebooks named by files or folders, in order; all below `nbs/` without a name."""
    below = lambda place: [place] if place.suffix == ".ipynb" else sorted(place.rglob("*.ipynb"))
    found = [path for name in names or [str(ROOT / "nbs")] for path in below(Path(name))]
    return [p.resolve() for p in found if not any(part.startswith((".", "_")) for part in p.parts)]


def main() -> int:
    """Show all that were asked for; the number of those that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="notebooks or folders; all of nbs/ without")
    parser.add_argument("--workers", type=int, default=2, help="notebooks side by side")
    parser.add_argument("--check", action="store_true", help="store nothing, say which cells would show something else")
    asked = parser.parse_args()
    paths, failed = notebooks(asked.names), 0
    with ProcessPoolExecutor(asked.workers) as pool:
        for path, wrong in zip(paths, pool.map(show, paths, [asked.check] * len(paths)), strict=True):
            failed += bool(wrong)
            went = f"FAILED {path.relative_to(ROOT)}: {wrong}" if wrong else f"ok     {path.relative_to(ROOT)}"
            print(went, flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main() > 0)
