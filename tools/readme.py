"""README.md from nbs/index.ipynb (nbdev_readme would want Quarto). `--check` compares and writes nothing."""

import posixpath
import re
import sys
from pathlib import Path

from nbconvert import MarkdownExporter

ROOT = Path(__file__).parent.parent


def from_the_root(text: str) -> str:
    """Links of a page in `nbs/` as links of a page in the root: `55_stats/00_paired.ipynb` -> `nbs/55_stats/00_paired.ipynb`."""
    moved = lambda found: f"]({posixpath.normpath(posixpath.join('nbs', found[1]))}"
    return re.sub(r"\]\((?![a-z]+:|#|/)([^)#\s]+)", moved, text)


def readme() -> str:
    """The front page as Markdown, without the `#|` lines of its code cells."""
    body, _ = MarkdownExporter().from_filename(str(ROOT / "nbs/index.ipynb"))
    return from_the_root("\n".join(line for line in body.splitlines() if not line.startswith("#|")).strip()) + "\n"


if __name__ == "__main__":
    target = ROOT / "README.md"
    if "--check" not in sys.argv[1:]:
        target.write_text(readme(), encoding="utf-8")
    elif target.read_text(encoding="utf-8") != readme():
        sys.exit("README.md is not what nbs/index.ipynb gives: run 'make format'.")
