"""The live page of a run: a row appears as it is appended, and nothing leaves the machine."""

import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from urllib.request import urlopen

import pytest

from wmvla.dashboards.live import watch_runs
from wmvla.dashboards.live_page import LivePage
from wmvla.rollout.records import row_line
from wmvla.runs import log_metrics
from wmvla.view.sample_run import EXAMPLE_GAINS, example_episodes, example_run

pytestmark = [pytest.mark.browser, pytest.mark.slow]
EPISODES = example_episodes(EXAMPLE_GAINS)
SHOWN = "document.querySelectorAll('.wml-newest li').length"


@pytest.fixture
def run(tmp_path):
    """An invented run, whose evaluation is about to begin; each test has its own."""
    run = example_run(tmp_path / "example")
    (run / "episodes.parquet").unlink()
    return run


@pytest.fixture
def page(run):
    """A server that watches it."""
    with LivePage(watch_runs(run)) as page:
        threading.Thread(target=page.serve_forever, daemon=True).start()
        yield page
        page.shutdown()


def live(look, page, theme="light"):
    return look(page.address, theme, ready=".wml-plot svg")


def append(run, episodes):
    with (run / "rollouts.jsonl").open("a") as file:
        for i, episode in episodes: file.write(row_line(str(i), episode))


def test_an_episode_is_on_the_page_two_seconds_after_its_end(run, page, look):
    seen = live(look, page)
    assert seen.page.locator(".wml-plot").count() >= 7
    began = time.perf_counter()
    append(run, [(0, EPISODES[0])])
    seen.page.wait_for_selector(".wml-newest li", timeout=4000)
    took = time.perf_counter() - began
    print(f"a row after {took:.2f} s")
    assert took < 2
    assert f"{int(EPISODES[0].success)} of 1" in seen.page.locator(".wml-table").first.text_content() and seen.complaints == []
    assert all(url.startswith((page.address.partition("?")[0], "data:")) for url in seen.asked)
    append(run, enumerate(EPISODES))  # the first one again: it counts once
    seen.page.wait_for_function(f"{SHOWN} === 40", timeout=4000)
    assert seen.page.locator("h3", has_text=f"Episodes: {len(EPISODES)}").count() == 1
    seen.keep("live")


def test_a_curve_grows_and_the_rest_stays_as_it_is(run, page, look):
    seen = live(look, page)
    line = "document.querySelector('.wml-line[points]').getAttribute('points')"
    before = seen.page.evaluate(line)
    seen.page.evaluate("document.querySelector('table').dataset.mine = 'kept'")
    log_metrics(run / "arms/A/s0/metrics.jsonl", step=2600, loss_action=0.4)
    seen.page.wait_for_function(f"before => {line} !== before", arg=before, timeout=4000)
    assert seen.page.evaluate("document.querySelector('table').dataset.mine") == "kept", "what has no news is not drawn anew"


def test_an_episode_of_the_list_opens_in_the_inspector(run, page, look):
    append(run, enumerate(EPISODES))
    seen = live(look, page, "dark")
    assert seen.page.evaluate("getComputedStyle(document.querySelector('.wmi')).backgroundColor") == "rgb(22, 24, 28)"
    seen.keep("live-dark")
    with seen.page.context.expect_page() as opened: seen.page.locator(".wml-open").first.click()
    opened.value.wait_for_selector(".wmi-player")
    assert EPISODES[-1].task in opened.value.locator(".wmi-player h3").text_content()
    opened.value.close()


def test_without_the_token_there_is_nothing(page, chromium):
    tab = chromium.new_page()
    assert tab.goto(page.address.partition("?")[0]).status == 403
    assert "printed" in tab.locator("body").text_content()
    tab.close()


def test_five_thousand_episodes_stay_quick(run, page, look):
    many = [(i, replace(EPISODES[i % len(EPISODES)], init_seed=i)) for i in range(5001)]
    append(run, many[:5000])
    seen = live(look, page)
    seen.page.wait_for_selector("h3:has-text('Episodes: 5000')", timeout=10_000)
    began = time.perf_counter()
    append(run, many[5000:])
    seen.page.wait_for_selector("h3:has-text('Episodes: 5001')", timeout=4000)
    took = time.perf_counter() - began
    print(f"one more of 5,000 after {took:.2f} s")
    assert took < 2


def test_the_command_ends_with_a_sentence(run):
    words = [sys.executable, "-c", "from wmvla.cli.main import main; raise SystemExit(main())", "dashboard", str(run), "--watch"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert "until Ctrl-C" in server.stdout.readline()
        address = server.stdout.readline().strip()
        with urlopen(address) as answer: assert b"watchPage();" in answer.read()
        server.send_signal(signal.SIGTERM)
        _, said = server.communicate(timeout=20)
    assert (server.returncode, said) == (0, "The page is closed; the run itself goes on.\n")
    with pytest.raises(OSError): urlopen(address, timeout=2)
