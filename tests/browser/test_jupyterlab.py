"""The widget in a real JupyterLab: it asks the kernel, plays a film that came in pieces, and follows what a cell sets."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from wmvla.view.sample_run import example_run

pytestmark = [pytest.mark.browser, pytest.mark.slow]
CELLS = ["""import time
import numpy as np
from wmvla.ablate.findings import EpisodeFindings
from wmvla.ablate.what_if import HeadEffect, WhatIf
from wmvla.dashboards.inspector import read_gallery
from wmvla.dashboards.widget import inspected

class Invented:
    def memories(self, record): return ("zero", "history")
    def what_if(self, trace, decision, memory, donor, tell):
        for done in range(1, 4): tell(done, 3); time.sleep(.2)
        own = trace.actions[decision]
        return WhatIf(decision, int(trace.step[decision]), {"pred": own, memory: -own}, np.ones(own.shape[1]))
    def find(self, what, trace, tell): return EpisodeFindings(heads=(HeadEffect(0, 1, .4), HeadEffect(0, 0, .1)))

gallery = read_gallery("example")
traced = next(n for n, take in gallery.takes.items() if take.film and take.trace and take.record.arm == "F")
widget = inspected(gallery, traced, asker=Invented())
widget""", "widget.step = 40; print('at', widget.step)"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab with one notebook beside an invented run."""
    home, user = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("user")
    example_run(home / "example")
    kernel = {"kernelspec": {"name": "python3", "display_name": "python3"}}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS], metadata=kernel)
    nbformat.write(notebook, home / "look.ipynb")
    own = {"HOME": str(user), "JUPYTER_RUNTIME_DIR": str(user / "runtime")}
    flags = ["--no-browser", "--ip", "127.0.0.1"]
    flags += ["--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True", "--allow-root"]
    with open(user / "log", "w") as log:
        command = [Path(sys.executable).parent / "jupyter", "lab", *flags]
        process = subprocess.Popen(command, cwd=home, env=os.environ | own, stdout=log, stderr=log)
    try:
        for _ in range(240):
            text = [info.read_text() for info in user.glob("runtime/jpserver-*.json")]
            if text and text[0].endswith("}"): break
            assert process.poll() is None, (user / "log").read_text()[-2000:]
            time.sleep(0.5)
        yield f"{json.loads(text[0])['url']}lab/tree/look.ipynb"
    finally:
        process.terminate()
        process.wait(timeout=20)


def run_next_cell(page):
    page.keyboard.press("Shift+Enter")


def test_it_is_used_in_jupyterlab(lab, chromium, tmp_path):
    page = chromium.new_page(viewport={"width": 1280, "height": 1000})
    errors = []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.goto(lab)
    page.locator(".jp-Cell .cm-content").first.click(timeout=120_000)
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", timeout=120_000)
    run_next_cell(page)
    page.wait_for_selector(".wmi-tracks .wmi-head", timeout=180_000)
    page.wait_for_function("document.querySelector('.wmi-film video').readyState >= 2", timeout=60_000)
    box = page.locator(".wmi-tracks").bounding_box()
    page.locator(".wmi-player").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".wmi-transport input").input_value() == "8"
    page.locator(".wmi-go").first.click()
    page.wait_for_function("/decision [123] of 3/.test(document.querySelector('.wmi-asked').textContent)")
    page.wait_for_selector(".wmi-chunk polyline.wmi-plan")
    assert "decision 2" in page.locator(".wmi-answers").text_content() and "zeros" in page.locator(".wmi-answers").text_content()
    if shots := os.environ.get("WMVLA_SCREENSHOTS"): page.screenshot(path=f"{shots}/inspector-whatif.png")
    page.locator("[data-find=heads]").click()
    page.wait_for_selector(".wmi-head-effect")
    assert page.locator(".wmi-head-effect").first.text_content() == "head 1 0.4"
    assert page.locator("[data-find=heads]").count() == 0 and page.locator("[data-find=imagined]").count() == 1
    page.locator(".wmi-row").nth(3).click()
    page.wait_for_selector(".wmi-tracks .wmi-head, .wmi-player")
    page.locator(".jp-Cell .cm-content").nth(1).click()
    run_next_cell(page)
    page.wait_for_function("document.querySelector('.wmi-transport input').value === '40'", timeout=60_000)
    if shots := os.environ.get("WMVLA_SCREENSHOTS"): page.screenshot(path=f"{shots}/inspector-jupyterlab.png")
    assert box["width"] > 500 and errors == []
    page.close()
