"""Pictures of the inspector for its page of the docs, from one run: `python tools/pictures.py RUN [--episode ID] [--step N]`.

Chromium opens the page that `wmvla dashboard` would write, and photographs its parts. What a run does not hold
(findings, labels) is asked of its policies and its simulator first, and kept in it. Pictures it cannot give are left, and named.
"""

import argparse
import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from wmvla.cli.main import main as wmvla
from wmvla.dashboards.inspector import companions, first_of, gallery_html, read_gallery
from wmvla.dashboards.widget import ASKED_FINDINGS, answer
from wmvla.lab import open_run

FOLDER = Path(__file__).parent.parent / "docs" / "pictures" / "inspector"
MOST = 60_000  # bytes of a picture
MEMORIES = ("zero", "history", "present")  # that a decision is asked with
PANEL = """({payload, asked}) => {
  const episode = opened(payload), clock = new Clock(episode.steps, episode.fps);
  document.querySelector(".wmi-player").append(askOne(episode, clock, {}, { asked }));
}"""  # the panel of a notebook, which has its answers already


def ask_all(run: Path, episode: str, step: int) -> dict[str, Any]:
    """Findings of one episode and sentences of all, as buttons of a notebook make them; returns one decision asked again."""
    if not (run / "coc.jsonl").is_file(): wmvla(["coc", "generate", str(run)])
    widget = open_run(run).inspect()
    ask = lambda question: answer(widget.gallery, {"id": episode, **question}, widget.asker)[0]
    known = ask({"kind": "episode"})["payload"]["ask"]
    if known is None: sys.exit(f"The decisions of {episode} were not kept: nothing can be asked about it.")
    for what in (w for w in ASKED_FINDINGS if not known["found"].get(w, True)):
        print(f"asking for {what}", file=sys.stderr)
        ask({"kind": "find", "what": what})
    told = ask({"kind": "episode"})["payload"]
    decision = max(d for d, start in enumerate(told["step"]) if start <= step)
    memories = [m for m in MEMORIES if m in known["memories"]]
    asked = [ask({"kind": "what_if", "decision": decision, "memory": m})["what_if"] | {"id": episode} for m in memories]
    return {"payload": told, "asked": asked}


def store(picture: bytes, name: str, most_wide: int = 820) -> str:
    """Write a picture of few colours and of at most `MOST` bytes."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    while True:
        small = image if image.width <= most_wide else image.resize((most_wide, round(image.height * most_wide / image.width)))
        small.quantize(96).save(held := io.BytesIO(), "PNG", optimize=True)
        if held.tell() <= MOST: break
        most_wide = round(0.9 * small.width)
    (FOLDER / f"{name}.png").write_bytes(held.getvalue())
    return f"{name}.png {held.tell() // 1000} kB"


def parts_of(page: Page, told: dict[str, Any]) -> dict[str, bytes]:
    """The parts of a light page that are there, and the panel of a notebook with its answers."""
    seen = {}
    places = {"imagined": ".wmi-imagined", "heads": ".wmi-rankings", "tracks": ".wmi-tracks", "path": ".wmi-top"}
    for name, where in places.items():
        if page.locator(where).first.is_visible(): seen[name] = page.locator(where).first.screenshot()
    page.locator(".wmi-chosen").hover()
    page.wait_for_timeout(400)
    seen["list"] = page.locator(".wmi-list").screenshot()
    if told["asked"]:
        page.evaluate(PANEL, told)
        seen["whatif"] = page.locator(".wmi-ask").screenshot()
    return seen


def photographs(html: Path, address: str, told: dict[str, Any]) -> dict[str, bytes]:
    """Name -> picture, of a light and a dark page."""
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    if not binary: sys.exit("There is no Chromium: apt-get install chromium.")
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        seen = {}
        for theme in ("light", "dark"):
            page = browser.new_page(viewport={"width": 1280, "height": 1000}, color_scheme=theme)
            page.goto(f"{html.as_uri()}?{address}")
            page.wait_for_selector(".wmi-tracks .wmi-head")
            page.wait_for_function("[...document.querySelectorAll('.wmi-film video')].every(v => v.readyState >= 2)")
            for tick in page.locator(".wmi-sightwords input").all(): tick.check()
            page.wait_for_timeout(600)
            seen |= parts_of(page, told) if theme == "light" else {"whole-dark": page.screenshot()}
        browser.close()
    return seen


def main() -> None:
    """Make the pictures."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("run", type=Path)
    asked.add_argument("--episode", default="", help="as the inspector's address names it (default: the one it begins with)")
    asked.add_argument("--step", type=int, default=40)
    given = asked.parse_args()
    run = given.run.resolve()
    episode = given.episode or first_of(read_gallery(run))
    told = ask_all(run, episode, given.step)
    gallery = read_gallery(run)
    beside = companions(gallery).get(episode, "")
    with tempfile.TemporaryDirectory() as folder:
        html = Path(folder) / "page.html"
        html.write_text(gallery_html(gallery, episode), encoding="utf-8")
        seen = photographs(html, f"episode={quote(episode)}&beside={quote(beside)}&t={given.step}", told)
    for name, picture in seen.items(): print(store(picture, name))
    others = sorted({p.stem for p in FOLDER.glob("*.png")} - set(seen))
    if others: print("left as they were:", ", ".join(others))


if __name__ == "__main__": main()
