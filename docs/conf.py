"""Sphinx settings of the documentation site. `tools/docs.py` prepares the pages and calls Sphinx with this file."""

from configparser import ConfigParser
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

ROOT = Path(__file__).parent.parent
parser = ConfigParser(delimiters=["="])
parser.read(ROOT / "settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]

project, author, version = cfg["title"], cfg["author"], cfg["version"]
copyright = f"{author}, {cfg['license']}"
extensions = ["myst_nb"]
myst_heading_anchors = 3  # links to a heading of another page: install.md#jupyterlab
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
nb_execution_mode = "off"  # outputs come from the notebooks; `make docs ARGS=--execute` makes them first
nb_render_markdown_format = "myst"
nb_merge_streams = True
nb_ipywidgets_js = {}  # would fetch a library from the network; live widgets belong to JupyterLab
# show_doc headings are always level 3, whatever stands above them
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type"]

html_theme = "sphinx_book_theme"
html_title = cfg["title"]
html_static_path = [str(ROOT / "_proc/.sphinx/_static")]
html_theme_options = {
    "repository_url": cfg["git_url"],
    "use_repository_button": True,
    "use_download_button": False,
    "navbar_persistent": [],  # one search field is enough, in the sidebar
}
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "mathml"


def visit_inline_math(self: HTML5Translator, node: nodes.math) -> None:
    """MathML is drawn by the browser itself, so formulas need neither a script nor a network."""
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def visit_math_block(self: HTML5Translator, node: nodes.math_block) -> None:
    """A formula on lines of its own."""
    formula = convert(node.astext(), display="block")
    self.body.append(f'<div style="text-align: center; margin: 1.5em 0; font-size: 1.1em">{formula}</div>')
    raise nodes.SkipNode


def plotly_where_needed(app: Sphinx, pagename: str, template: str, context: dict, doctree: object) -> None:
    """plotly.js is 4 MB: one copy for the site, loaded by pages with a figure."""
    if "Plotly.newPlot" in context.get("body", ""):
        app.add_js_file("plotly.min.js", priority=100)


def setup(app: Sphinx) -> None:
    """Register the MathML renderer and the plotly rule."""
    app.add_html_math_renderer("mathml", (visit_inline_math, None), (visit_math_block, None))
    app.connect("html-page-context", plotly_where_needed)
