"""The documentation site: nbdev processes the notebooks, an adapter makes them plain, Sphinx renders them into `_docs/`.

Everything works offline. nbdev's own commands would call Quarto, hence the adapter between the two.
`--execute` runs a copy of every notebook first, so that the pages show its outputs whether or not they are stored.
The committed tables of `docs/benchmarks/` become pages behind the notebooks that made them, `docs/runbooks/` pages before all.
A link inside the site that leads nowhere is an error.
"""

import argparse
import ast
import itertools
import json
import os
import posixpath
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from configparser import ConfigParser
from dataclasses import dataclass
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from show import run_cells

ROOT = Path(__file__).parent.parent
PROCESSED = ROOT / "_proc"  # nbdev's cache of processed notebooks
SOURCE = PROCESSED / ".sphinx"  # what Sphinx reads
SITE = ROOT / "_docs"
TABLES = ROOT / "docs/benchmarks"  # what benchmarks measured, committed
RUNBOOKS = ROOT / "docs/runbooks"  # the guide, and how to run the whole comparison, a page a machine
PICTURES = ROOT / "docs/pictures"
ANSWER = ROOT / "docs/answer.md"  # what `wmvla run answer` found, with its curves in `docs/answer/`
GUIDE = ("install", "demo", "commands", "libero", "smolvla", "seeds", "reading", "files", "house")  # pages before the machines'
PLOTLY = "application/vnd.plotly.v1+json"
KERNEL = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}, "language_info": {"name": "python"}}


@dataclass(frozen=True)
class Page:
    """One page of the site."""

    name: str  # address without .html: "data/episodes", "experiments/report"
    group: str  # caption in the sidebar
    notebook: NotebookNode
    origin: str  # the file that it was made from, below the root of the repository


CAPTIONS = {
    "toy": "Worlds of known truth", "sim": "Simulators", "demos": "Demonstrations", "encoders": "Encoders", "latents": "Latents",
    "world": "Tokens and the Prophet", "policy": "Policies and the gate", "train": "Training", "rollout": "Closed loop",
    "stats": "Statistics: intervals and tests", "ablate": "Interventions", "checks": "Checks", "view": "Figures and reports",
    "plugin": "LeRobot plugin", "smolvla": "SmolVLA", "cli": "Command line"}  # fmt: skip


def without_numbers(path: str) -> str:
    """`10_data/06_episodes` as an address: `data/episodes`."""
    return re.sub(r"(?<![^/])\d+[a-z]?_", "", path)


def group_of(name: str) -> str:
    """Sidebar caption: the folder of a page; a page of no folder belongs to the front."""
    folder = name.rpartition("/")[0]
    return CAPTIONS.get(folder, folder.replace("_", " ").capitalize()) or "Start"


def plain_links(text: str, pages: set[str], page: str) -> str:
    """nbdev's links to symbols (`/10_data/windows.html#near`, or under the address of the site) as links from `page`."""
    up = "../" * page.count("/")

    def link(found: re.Match) -> str:
        to = without_numbers(found["page"])
        owner = found["anchor"].partition(".")[0]  # methods stand on the page under their class
        return f'<a href="{up}{to}.html#{owner}">{found["text"].replace("`", "")}</a>' if to in pages else found[0]

    address = r"(?:https?://[^)#]*?)?/(?P<page>(?:\d+[a-z]?_\w+/)?[\w.]+)\.html#(?P<anchor>[\w.]+)"
    return re.sub(rf"\[(?P<text>`[^\]]+`)\]\({address}\)", link, text)


LINK = re.compile(r"(?P<head>\]\()(?P<to>(?![a-z]+:|[#/])[^)\s#]+)(?P<anchor>#[^)\s]*)?(?=\))")
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.M | re.S)  # may hold what looks like a link and is none


def repository_path(origin: str, to: str) -> str:
    """The file that a link `to` in the file `origin` means, below the root."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), to))


def page_links(text: str, page: Page, targets: dict[str, str], url: str) -> str:
    """Links between files of the repository as links between pages of the site; what is no page is shown in the repository."""

    def link(found: re.Match) -> str:
        path, anchor = repository_path(page.origin, found["to"]), found["anchor"] or ""
        if path in targets: to = posixpath.relpath(targets[path], posixpath.dirname(page.name) or ".")
        elif (ROOT / path).exists(): to = f"{url}/blob/main/{path}"
        else: sys.exit(f"{page.origin} links to {found['to']}, and there is no {path}.")
        return f"{found['head']}{to}{anchor}"

    kept = CODE.findall(text)
    parts = [LINK.sub(link, part) for part in CODE.split(text)]
    return "".join(part for pair in itertools.zip_longest(parts, kept, fillvalue="") for part in pair)


def targets_of(pages: list[Page]) -> dict[str, str]:
    """File of the repository -> file of the site's source, for pages and pictures."""
    shown = [*PICTURES.glob("*.png"), *ANSWER.with_suffix("").glob("*.svg")]
    pictures = {str(p.relative_to(ROOT)): f"pictures/{p.name}" for p in shown}
    return pictures | {page.origin: f"{page.name}.ipynb" for page in pages}


def documented(cell: NotebookNode) -> NotebookNode | None:
    """The Markdown that `show_doc` printed, with an anchor of the name as nbdev spells it."""
    if not cell.outputs:
        return None
    told = [o["data"]["text/markdown"] for o in cell.outputs if "text/markdown" in o.get("data", {})]
    if not told:
        said = re.sub(r"\x1b\[[\d;]*m", "", "".join(cell.outputs[0].get("text", ""))).strip()
        sys.exit(f"{cell.source.splitlines()[-1]} printed no documentation: {said.splitlines()[-1] if said else 'nothing'}")
    text = "".join(told[0]).removeprefix("---\n")
    text = re.sub(r'\{target="_blank"[^}]*\}', "", text)
    head = re.compile(r"(?P<source>\[source\].*)\n+(?P<title>#+ (?P<name>[\w.]+).*)")
    text = head.sub(lambda m: f'<a id="{m["name"].lower()}"></a>\n\n{m["title"]}\n\n{m["source"]}', text, count=1)
    return new_markdown_cell(text.strip())


def plain_output(output: NotebookNode) -> NotebookNode:
    """A plotly figure as HTML that finds the library on its page; anything else as it is."""
    if PLOTLY in output.get("data", {}):
        import plotly.io

        stored = {k: output["data"][PLOTLY][k] for k in ("data", "layout")}
        for picture in stored["layout"].get("images", []):
            picture["source"] = "".join(picture["source"])  # nbdev splits whatever is called source into lines
        figure = plotly.io.from_json(json.dumps(stored), skip_invalid=True)
        output["data"] = {"text/html": plotly.io.to_html(figure, include_plotlyjs=False, full_html=False)}
    return output


def front_matter(cell: NotebookNode) -> dict | None:
    """What nbdev gathered from the first cell: title, description, name of the page."""
    return yaml.safe_load(cell.source.strip().strip("-")) if cell.cell_type == "raw" and cell.source.startswith("---") else None


def plain_cells(cells: list[NotebookNode], pages: set[str], page: str) -> Iterator[NotebookNode]:
    """The cells of a processed notebook, which becomes `page`, as any notebook renderer takes them."""
    for cell in cells:
        cell.pop("has_sd", None)
        if head := front_matter(cell):
            cell = new_markdown_cell(f"# {head['title']}\n\n*{head.get('description', '')}*")
        elif "AUTOGENERATED" in cell.source:
            continue
        elif cell.cell_type == "code":
            if "output: asis" in cell.source:
                if (cell := documented(cell)) is None:
                    continue
            else:
                shown = [plain_output(o) for o in cell.outputs if o.get("name") != "stderr"]  # progress bars are not for readers
                cell.metadata, cell.outputs = NotebookNode(), shown
                cell.source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M).strip()
                if not cell.source and not cell.outputs:
                    continue
        if cell.cell_type == "markdown":
            cell.source = plain_links(cell.source, pages, page)
        yield cell


def read_processed(path: Path) -> NotebookNode:
    """A processed notebook; every source one string, as nbformat wants it."""
    notebook = nbformat.from_dict(json.loads(path.read_text(encoding="utf-8")))
    for cell in notebook.cells:
        cell.source = "".join(cell.source)
    return notebook


def read_pages(processed: Path) -> list[Page]:
    """All pages: what stands in no folder, tutorials and experiments, the rooms by their numbers, other folders after them."""
    paths = [p.relative_to(processed) for p in processed.rglob("*.ipynb")]
    pages = []
    first = ("tutorials", "experiments")
    rank = lambda folder: first.index(folder) if folder in first else 2 + (not folder[0].isdigit())
    place = lambda path: (len(path.parts), rank(path.parts[0]), path)
    for path in sorted((p for p in paths if p.parts[0][0] != "."), key=place):
        notebook = read_processed(processed / path)
        heads = [head for cell in notebook.cells if (head := front_matter(cell))]
        if not heads:
            sys.exit(f"nbs/{path} has no page title: its first cell must hold '# name' and '> subtitle'.")
        name = without_numbers(str(path.with_name(heads[0]["output-file"]).with_suffix("")))
        pages.append(Page(name, group_of(name), notebook, f"nbs/{path}"))
    return pages


def owner_of(table: str, pages: list[Page]) -> Page | None:
    """The notebook that made a table: the one of its name, or whose name it goes on from (`smolvla_world_tiny`)."""
    stem = lambda page: page.name.split("/")[-1]
    made = (p for p in pages if "/" in p.name and f"{table}_".startswith(f"{stem(p)}_"))
    return max(made, key=lambda p: len(stem(p)), default=None)


def with_tables(pages: list[Page], tables: Path) -> list[Page]:
    """`pages` with every committed table of results as a page behind its notebook; behind all others where that is gone."""
    tabled = list(pages)
    for path in sorted(tables.glob("*.md"), reverse=True):  # the first of several that one notebook made comes last to its side
        notebook = nbformat.v4.new_notebook(cells=[new_markdown_cell(path.read_text(encoding="utf-8"))])
        owner = owner_of(path.stem, pages)
        folder, group = (owner.name.split("/")[0], owner.group) if owner else ("benchmarks", "Benchmarks")
        place = tabled.index(owner) + 1 if owner else len(tabled)
        tabled.insert(place, Page(f"{folder}/{path.stem}-results", group, notebook, f"docs/benchmarks/{path.name}"))
    return tabled


def with_runbooks(pages: list[Page], runbooks: Path) -> list[Page]:
    """`pages` with the guide and the runbooks before them."""
    made = []
    place = lambda path: (GUIDE.index(path.stem) if path.stem in GUIDE else len(GUIDE), path.stem)
    for path in sorted(runbooks.glob("*.md"), key=place):
        notebook = nbformat.v4.new_notebook(cells=[new_markdown_cell(path.read_text(encoding="utf-8"))])
        group = "Guide" if path.stem in GUIDE else "Runbooks: one machine, from data to verdict"
        made.append(Page(f"runbooks/{path.stem}", group, notebook, f"docs/runbooks/{path.name}"))
    if ANSWER.is_file() and runbooks == RUNBOOKS:
        notebook = nbformat.v4.new_notebook(cells=[new_markdown_cell(ANSWER.read_text(encoding="utf-8"))])
        made.insert(2, Page("answer", "Guide", notebook, str(ANSWER.relative_to(ROOT))))
    return made + pages


def contents(pages: list[Page]) -> str:
    """The sidebar: one captioned list a group, groups in the order of their first page."""
    listed = [p for p in pages if p.name != "index"]
    order = {group: i for i, group in enumerate(dict.fromkeys(p.group for p in listed))}
    blocks = []
    for group, members in itertools.groupby(sorted(listed, key=lambda p: order[p.group]), key=lambda p: p.group):
        names = "\n".join(p.name for p in members)
        blocks.append(f"```{{toctree}}\n:hidden:\n:caption: {group}\n\n{names}\n```")
    return "\n\n".join(blocks)


def write_source(pages: list[Page], source: Path) -> None:
    """Write plain notebooks and the static files for Sphinx."""
    from plotly.offline import get_plotlyjs

    shutil.rmtree(source, ignore_errors=True)
    (source / "_static").mkdir(parents=True)
    (source / "_static/plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
    if PICTURES.is_dir(): shutil.copytree(PICTURES, source / "pictures")
    for curves in ANSWER.with_suffix("").glob("*.svg"): shutil.copy(curves, source / "pictures")
    names, targets, settings = {p.name for p in pages}, targets_of(pages), ConfigParser(delimiters=["="])
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    for page in pages:
        notebook = nbformat.v4.new_notebook(cells=list(plain_cells(page.notebook.cells, names, page.name)), metadata=KERNEL)
        for cell in (c for c in notebook.cells if c.cell_type == "markdown"):
            cell.source = page_links(cell.source, page, targets, settings["DEFAULT"]["git_url"])
        if page.name == "index":
            notebook.cells.append(new_markdown_cell(contents(pages)))
        target = source / f"{page.name}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target)


def execute(path: Path) -> Path:
    """Run a copied notebook in place; an error becomes part of the page."""
    notebook = nbformat.read(path, as_version=4)
    os.environ["IN_TEST"] = "1"  # as nbdev_test does: benchmarks then keep their runs out of the tree
    run_cells(notebook, ROOT / "nbs", allow_errors=True)
    for output in (o for cell in notebook.cells for o in cell.get("outputs", []) if o.output_type == "error"):
        print(f"{path.name}: {output.ename}: {output.evalue[:200]}", file=sys.stderr)
    nbformat.write(notebook, path)
    return path


def executed_copy(notebooks: Path, target: Path) -> Path:
    """A copy of `notebooks` with fresh outputs."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(notebooks, target, ignore=shutil.ignore_patterns(".*"))
    paths = sorted(target.rglob("*.ipynb"))
    with ProcessPoolExecutor(2) as pool:
        for n, path in enumerate(pool.map(execute, paths), 1):
            print(f"executed {n}/{len(paths)} {path.relative_to(target)}", flush=True)
    return target


class Addresses(HTMLParser):
    """What a page of the site links to, and the anchors that it has."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        self.links += [given[name] for name in ("href", "src") if given.get(name)]


def dead_links(site: Path) -> list[str]:
    """`page: link` for every link between files of the site that leads nowhere, also to an anchor that is missing."""
    pages = sorted(path for path in site.rglob("*.html") if "_static" not in path.parts)  # templates of the theme lie there
    read = {path: Addresses(path.read_text(encoding="utf-8")) for path in pages}
    dead = []
    for path, page in read.items():
        for link in dict.fromkeys(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc: continue
            to = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not to.exists() or (anchor and to in read and anchor not in read[to].anchors):
                dead.append(f"{path.relative_to(site)}: {link}")
    return dead


def documents(cell: NotebookNode, asked: Callable[[NotebookNode], bool | None]) -> bool:
    """Must nbdev run a cell before it can print documentation? Not a lesson, though it may import something on its way."""
    if not asked(cell): return False
    exported = cell.directives_.keys() & {"export", "exports", "exporti", "exec_doc"}
    kinds = (ast.Import, ast.ImportFrom)
    return bool(exported) or "show_doc" in cell.source or all(isinstance(node, kinds) for node in cell.parsed_() or ())


def build(run_notebooks: bool) -> int:
    """Make the site; the exit code of Sphinx."""
    from nbdev import processors
    from nbdev.serve import proc_nbs
    from sphinx.cmd.build import main as sphinx

    notebooks = executed_copy(ROOT / "nbs", ROOT / "_proc_executed") if run_notebooks else ROOT / "nbs"
    processors._do_eval = partial(documents, asked=processors._do_eval)
    proc_nbs(str(notebooks), n_workers=0, force=True)  # here: a worker process would not know of the line above
    write_source(with_runbooks(with_tables(read_pages(PROCESSED), TABLES), RUNBOOKS), SOURCE)
    shutil.rmtree(SITE, ignore_errors=True)
    code = sphinx(["-q", "-b", "html", "-c", str(ROOT / "docs"), "-d", str(PROCESSED / ".doctrees"), str(SOURCE), str(SITE)])
    if code: return code
    for link in (dead := dead_links(SITE)): print(f"leads nowhere: {link}", file=sys.stderr)
    print(f"open {SITE / 'index.html'}")
    return int(bool(dead))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--execute", action="store_true", help="run a copy of every notebook first (minutes)")
    sys.exit(build(parser.parse_args().execute))
