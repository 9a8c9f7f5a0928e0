"""The inspector as a person uses it: a page from a file, looked at by mouse and by keyboard."""

import dataclasses
import re
from urllib.parse import quote

import numpy as np
import pytest

from wmvla.ablate.imagined import Imagined
from wmvla.ablate.latent_path import code_counts, path_through
from wmvla.ablate.what_if import HeadEffect
from wmvla.coc.labels import CocLabel, joined_text
from wmvla.coc.played import played_mark
from wmvla.coc.truth import Segment
from wmvla.dashboards.inspector import (
    add_labels,
    companions,
    gallery_html,
    read_gallery,
    shown_take,
    telling_order,
    write_dashboard,
)
from wmvla.encoders.sight import EncoderSight
from wmvla.files import read_json
from wmvla.lines import line_of
from wmvla.rollout.jobs import read_triples
from wmvla.view.player import Span, episode_id, payload
from wmvla.view.sample_run import example_run
from wmvla.view.standalone import about_run, standalone_html

pytestmark = pytest.mark.browser
slow = pytest.mark.slow
TIME = "document.querySelector('.wmi-film video').currentTime"


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    return read_gallery(example_run(tmp_path_factory.mktemp("runs") / "example"))


@pytest.fixture(scope="module")
def page(gallery, tmp_path_factory):
    """The page of an invented run, as a file."""
    path = tmp_path_factory.mktemp("page") / "dashboard.html"
    path.write_text(gallery_html(gallery))
    return path


@pytest.fixture(scope="module")
def filmed(gallery):
    """An episode of F with film and trace, and what the page knows of it."""
    name = next(n for n in telling_order(gallery) if gallery.takes[n].film and gallery.takes[n].record.arm == "F")
    return payload(shown_take(gallery, name))


def address(page, episode, step=0, beside=""):
    more = f"&beside={quote(beside)}" if beside else ""
    return f"{page.as_uri()}?episode={quote(episode)}{more}&t={step}"


def click_at(seen, step, last):
    """Click the curves where `step` lies."""
    box = seen.page.locator(".wmi-tracks").bounding_box()
    left, right = box["x"] + 150, box["x"] + box["width"] - 96
    seen.page.mouse.click(left + (right - left) * step / last, box["y"] + 120)


def shown_step(seen) -> int:
    return int(seen.page.locator(".wmi-transport input").input_value())


def test_a_click_on_a_curve_moves_the_film_and_nothing_is_loaded(page, filmed, look):
    """The smoke test: opens from a file, 0 requests, 0 complaints, film within one frame of the click."""
    seen = look(address(page, filmed["id"], 3))
    seen.page.wait_for_function("document.querySelector('.wmi-film video').readyState >= 2")
    assert shown_step(seen) == 3
    for step in (20, 9, 31):
        click_at(seen, step, filmed["steps"])
        seen.page.wait_for_function("!document.querySelector('.wmi-film video').seeking")
        assert abs(shown_step(seen) - step) <= 1
        time = seen.page.evaluate(TIME)
        assert shown_step(seen) / filmed["fps"] <= time <= (shown_step(seen) + 1) / filmed["fps"]
    assert seen.network == [] and seen.complaints == []
    seen.keep("inspector-one")


@slow
def test_arrows_go_from_decision_to_decision_and_space_plays(page, filmed, look):
    seen = look(address(page, filmed["id"]))
    seen.page.locator(".wmi-player").focus()
    keys = ("ArrowRight", 8), ("ArrowRight", 16), ("ArrowLeft", 8), ("Shift+ArrowRight", 9), ("ArrowLeft", 8), ("Home", 0)
    for key, step in keys:
        seen.page.keyboard.press(key)
        assert shown_step(seen) == step, key
    seen.page.keyboard.press("End")
    assert shown_step(seen) == filmed["steps"]
    seen.page.keyboard.press("Home")
    seen.page.keyboard.press(" ")
    seen.page.wait_for_timeout(500)
    seen.page.keyboard.press(" ")
    at = shown_step(seen)
    assert 5 < at <= filmed["steps"]
    seen.page.wait_for_timeout(200)
    assert shown_step(seen) == at and seen.page.evaluate("document.querySelector('.wmi-film video').paused")


@slow
def test_the_list_filters_and_sorts(page, gallery, look):
    seen = look(page.as_uri())
    count = seen.page.locator(".wmi-count")
    assert count.text_content() == f"{len(gallery.takes)} of {len(gallery.takes)} episodes"
    seen.page.locator("[data-filter=arm]").select_option("F")
    assert count.text_content().startswith(f"{sum(r.arm == 'F' for r in gallery.records)} of")
    seen.page.locator("[data-filter=outcome]").select_option("failure")
    assert count.text_content().startswith(f"{sum(r.arm == 'F' and not r.success for r in gallery.records)} of")
    seen.page.locator("[data-filter=arm]").select_option("")
    seen.page.locator("[data-filter=outcome]").select_option("")
    seen.page.locator("[data-filter=disagree]").check()
    split = sum(row["disagree"] for row in about_run(gallery.records)["rows"])
    assert 0 < split < len(gallery.takes) and count.text_content().startswith(f"{split} of")
    seen.page.locator(".wmi-h-steps").click()
    steps = [int(t) for t in seen.page.locator(".wmi-row .wmi-num:nth-of-type(5)").all_text_contents()]
    assert steps == sorted(steps) and len(steps) > 5
    seen.page.locator(".wmi-row").nth(2).click()
    assert seen.page.locator(".wmi-chosen").count() == 1 and seen.complaints == []


@slow
def test_an_address_names_episode_step_and_companion(page, gallery, filmed, look):
    beside = companions(gallery)[filmed["id"]]
    seen = look(address(page, filmed["id"], 16, beside).replace("?", "#"))
    assert shown_step(seen) == 16 and seen.page.locator(".wmi-film").count() == 2
    seen.page.locator(".wmi-player").focus()
    seen.page.keyboard.press("ArrowRight")
    assert "t=24" in seen.page.url and quote(beside) in seen.page.url  # to be copied
    assert "two trainings of one arm" in seen.page.locator(".wmi-apart").text_content()
    assert seen.page.locator("path.wmi-distance").count() == 1
    assert "Over the whole episode" in seen.page.locator(".wmi-now").text_content()
    seen.keep("inspector-two")
    same = gallery.takes[filmed["id"]].record.triple
    other = next(n for n, t in gallery.takes.items() if n not in (filmed["id"], beside) and t.record.triple == same and t.film)
    apart = look(address(page, filmed["id"], 16, other)).page
    assert apart.locator("path.wmi-distance").count() == 0
    assert apart.locator(".wmi-apart").text_content().startswith("How far the chunks of these two are apart is not told")
    lost = look(f"{page.as_uri()}?episode=nobody")
    assert "There is no episode nobody here" in lost.page.locator(".wmi-said").text_content()


@slow
def test_hover_tells_share_and_strength_of_the_gate(page, gallery, filmed, look):
    seen = look(address(page, filmed["id"]))
    box = seen.page.locator(".wmi-tracks").bounding_box()
    seen.page.mouse.move(box["x"] + 152, box["y"] + 45)
    trace = gallery.opened[filmed["id"]]
    said = seen.page.locator(".wmi-tip").text_content()
    share, strength = 100 * float(trace.share[0].mean()), float(trace.gate[0].mean())
    assert f"{share:.3g} % of the residual" in said and f"tanh(g) {strength:+.3g}" in said


@slow
def test_a_sentence_plays_its_segment_and_a_lie_is_marked(gallery, filmed, look, tmp_path):
    lie = Span(0, 30, "lifts it", source="model", against="pushes it")
    spans = (Span(0, 16, "reaches for the disc"), Span(16, 24, "pushes it"), lie)
    shown = dataclasses.replace(shown_take(gallery, filmed["id"]), spans=spans)
    path = tmp_path / "one.html"
    path.write_text(standalone_html(about_run([shown.record], "One episode"), [payload(shown)]))
    seen = look(path.as_uri())
    assert seen.page.locator(".wmi-list").count() == 0
    assert seen.page.locator(".wmi-against").all_text_contents() == ["lifts it"]
    seen.page.get_by_role("button", name="pushes it").first.click()
    seen.page.wait_for_function("document.querySelector('.wmi-play').textContent === '▶'")
    assert shown_step(seen) == 24 and seen.complaints == []
    seen.keep("inspector-sentences")


@slow
def test_head_and_action_step_of_the_attention_are_chosen(page, gallery, filmed, look):
    seen = look(address(page, filmed["id"]))
    shade = lambda: float(seen.page.locator(".wmi-cell").first.get_attribute("fill-opacity"))
    weights = gallery.opened[filmed["id"]].attention[:, 0].astype(float)
    expected = lambda rows: 0.04 + 0.96 * rows[0, 0] / rows.max()
    assert shade() == pytest.approx(expected(weights.mean((1, 2))), abs=2e-3)
    seen.page.get_by_label("Attention of head").select_option("2")
    assert shade() == pytest.approx(expected(weights[:, 2].mean(1)), abs=2e-3)
    seen.page.get_by_label("Attention of action step").select_option("5")
    assert shade() == pytest.approx(expected(weights[:, 2, 5]), abs=2e-3)


@slow
def test_of_five_hundred_rows_only_those_in_sight_are_drawn(gallery, look, tmp_path):
    records = [dataclasses.replace(gallery.records[i % 96], init_seed=i) for i in range(500)]
    path = tmp_path / "many.html"
    path.write_text(standalone_html(about_run(records, "many"), []))
    seen = look(path.as_uri())
    box = seen.page.locator("[data-filter=seen]")
    box.click()
    assert seen.page.locator(".wmi-count").text_content() == "0 of 500 episodes"
    box.click()
    assert seen.page.locator(".wmi-count").text_content() == "500 of 500 episodes"
    assert 0 < seen.page.locator(".wmi-row").count() < 60


@slow
def test_a_move_of_the_slider_draws_no_curve_anew(page, gallery, filmed, look):
    seen = look(address(page, filmed["id"], 0, companions(gallery)[filmed["id"]]))
    kept = seen.page.evaluate("""(last) => { const slider = document.querySelector('.wmi-transport input');
        const drawn = [...document.querySelectorAll('.wmi-tracks path, .wmi-cell')].filter((x) => !x.closest('.wmi-head'));
        for (let step = 0; step <= last; step += 1) { slider.value = step; slider.dispatchEvent(new Event('input')); }
        return [drawn.length, drawn.filter((x) => x.isConnected).length]; }""", filmed["steps"])
    assert kept[0] > 20 and kept[1] > 0.8 * kept[0]  # what hangs on the decision, as a profile, is drawn anew


@slow
def test_dark_is_dark(page, filmed, look):
    light, dark = (look(address(page, filmed["id"], 20), theme) for theme in ("light", "dark"))
    paper = lambda seen: seen.page.evaluate("getComputedStyle(document.querySelector('.wmi')).backgroundColor")
    assert paper(light) == "rgb(255, 255, 255)" and paper(dark) == "rgb(22, 24, 28)"
    dark.keep("inspector-dark")


@slow
def test_a_run_without_episodes_is_a_sentence(look, tmp_path):
    from wmvla.runs import create_run, finish_run

    finish_run(run := create_run(tmp_path, "young", {}))
    seen = look(write_dashboard(run.path).as_uri())
    assert "No episode has been played here yet" in seen.page.locator(".wmi-said").text_content() and seen.complaints == []


@slow
def test_films_beside_the_page_are_played_from_their_files(gallery, filmed, look, tmp_path):
    take = gallery.takes[filmed["id"]]
    path = take.film.parents[1] / "beside.html"
    path.write_text(gallery_html(gallery, filmed["id"], most=take.film.stat().st_size + 5_000_000, beside=path.parent))
    path.write_text(path.read_text().replace(filmed["film"], f"videos/{take.film.name}"))
    seen = look(address(path, filmed["id"], 12))
    seen.page.wait_for_function("document.querySelector('.wmi-film video').readyState >= 2")
    assert any(url.endswith(".mp4") for url in seen.asked) and seen.network == []


@pytest.fixture(scope="module")
def found_page(gallery, filmed, tmp_path_factory):
    """One episode with all that can be asked of it, and what was asked."""
    trace = gallery.opened[filmed["id"]]
    rng, decisions = np.random.default_rng(0), len(trace)
    cells = {name: rng.integers(0, 255, (decisions, 4, 16, 16, 3), dtype=np.uint8) for name in ("came", "nearest", "decoded")}
    imagined = Imagined(rng.random((decisions, 8)), rng.random((decisions, 8)), nearest=rng.integers(0, 30, (decisions, 8)),
                        ahead=(1, 3, 6, 8), pictures=cells)
    heads = tuple(HeadEffect(0, head, effect) for head, effect in ((2, 0.5), (0, 0.2), (3, 0.1), (1, 0.01)))
    sight = EncoderSight(rng.random((decisions, 8, 8)), "occlusion")
    latents = rng.normal(size=(filmed["steps"] + 1, 16)).cumsum(0)
    ahead = np.minimum(trace.step[:, None] + 1 + np.arange(8), filmed["steps"])
    way = path_through(latents, latents[ahead] + rng.normal(size=(decisions, 8, 16)))
    way = dataclasses.replace(way, codes=rng.integers(0, 12, (filmed["steps"] + 1, 1)), book=64)
    shown = dataclasses.replace(shown_take(gallery, filmed["id"]), imagined=imagined, heads=heads, sight=sight, path=way,
                                without=np.linspace(0.25, 2, decisions))
    path = tmp_path_factory.mktemp("found") / "one.html"
    path.write_text(standalone_html(about_run([shown.record], "One episode"), [payload(shown)]))
    return path, shown


@slow
def test_what_was_imagined_stands_beside_what_came(found_page, filmed, look):
    path, shown = found_page
    seen, steps = look(address(path, filmed["id"], filmed["step"][1])), filmed["steps"]
    seen.page.wait_for_function("document.querySelector('.wmi-film video').readyState >= 2")
    there = [k for k in shown.imagined.ahead if filmed["step"][1] + k <= steps]
    rows = seen.page.locator(".wmi-imagined tr")
    assert rows.locator("th").all_text_contents()[1:4] == ["came", "nearest real frame", "predicted, decoded"]
    assert seen.page.locator(".wmi-imagined .wmi-cut").count() == 3 * len(there)
    left = min(8, steps - filmed["step"][1])
    worse = [k for k in range(1, left + 1) if shown.imagined.error[1, k - 1] > shown.imagined.copy_last[1, k - 1]]
    expected = f"Worse than copying the present {', '.join(map(str, worse))} ahead, of {left}."
    if not worse: expected = f"At none of {left} steps ahead worse than copying the present."
    assert seen.page.locator(".wmi-imagined figcaption").text_content() == expected
    assert seen.page.locator(".wmi-worse").count() == int((shown.imagined.error > shown.imagined.copy_last).sum())
    nearest = [f"most like step {shown.imagined.nearest[1, k - 1]}" for k in there]
    assert rows.nth(2).locator(".wmi-cut").evaluate_all("cells => cells.map(c => c.title)") == nearest
    assert seen.network == [] and seen.complaints == []
    seen.keep("inspector-imagined")


def ring(seen):
    """Where the clock stands on the path, in pixels of the screen."""
    box = seen.page.locator(".wmi-ring").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def dot(seen, step):
    box = seen.page.locator(".wmi-frame").nth(step).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@slow
def test_path_film_and_codes_are_one_selection(found_page, filmed, look):
    """A click on the path moves film and clock, the clock moves the ring, a code goes to its next frame."""
    path, shown = found_page
    seen = look(address(path, filmed["id"], 4))
    seen.page.wait_for_function("document.querySelector('.wmi-film video').readyState >= 2")
    assert seen.page.locator(".wmi-frame").count() == filmed["steps"] + 1
    assert ring(seen) == pytest.approx(dot(seen, 4), abs=1)
    gaps = np.linalg.norm(shown.path.points[:, None] - shown.path.points, axis=-1) + 1e9 * np.eye(len(shown.path.points))
    for step in gaps.min(1).argsort()[-3:].tolist():  # frames that no other one lies close to
        seen.page.mouse.click(*dot(seen, step))
        assert shown_step(seen) == step and ring(seen) == pytest.approx(dot(seen, step), abs=1)
        seen.page.wait_for_function("!document.querySelector('.wmi-film video').seeking")
        assert step / filmed["fps"] <= seen.page.evaluate(TIME) <= (step + 1) / filmed["fps"]
    seen.page.locator(".wmi-player").focus()
    seen.page.keyboard.press("Home")
    assert ring(seen) == pytest.approx(dot(seen, 0), abs=1)
    assert len(seen.page.locator(".wmi-ahead").get_attribute("points").split()) == 9
    code, often = code_counts(shown.path)[0]
    button = seen.page.locator(".wmi-code").first
    assert button.text_content() == f"{code} {often}"
    button.click()
    assert shown_step(seen) == next(i for i in range(1, len(shown.path.codes)) if shown.path.codes[i, 0] == code)
    assert "wmi-now-code" in button.get_attribute("class")
    assert "Error against step" in seen.page.locator(".wmi-tracks").text_content() and seen.complaints == []
    seen.keep("inspector-path")


@slow
def test_heads_stand_in_the_order_of_their_effect_and_are_chosen(found_page, filmed, look):
    path, shown = found_page
    seen = look(path.as_uri())
    buttons = seen.page.locator(".wmi-head-effect")
    assert [t.rsplit(" ", 1)[0] for t in buttons.all_text_contents()] == ["head 2", "head 0", "head 3", "head 1"]
    buttons.nth(1).click()
    assert seen.page.get_by_label("Attention of head").input_value() == "0"
    shade = float(seen.page.locator(".wmi-cell:not(.wmi-worse)").first.get_attribute("fill-opacity"))
    rows = shown.trace.attention[:, 0, 0].astype(float).mean(1)
    assert shade == pytest.approx(0.04 + 0.96 * rows[0, 0] / rows.max(), abs=2e-3)
    assert "most with head 2 (0.5)" in seen.page.locator(".wmi-now").text_content()
    seen.keep("inspector-heads")


@slow
def test_what_a_chunk_loses_without_its_memory_is_a_curve(found_page, filmed, look):
    path, shown = found_page
    seen = look(address(path, filmed["id"], filmed["step"][1]))
    told = f"Without its memory of {shown.record.arm}: with zeros the chunk moves by {shown.without[1]:.3g} spreads"
    assert told in seen.page.locator(".wmi-tracks").get_attribute("aria-label") and seen.complaints == []


@slow
def test_where_the_encoder_looks_lies_over_the_film_and_says_how(found_page, filmed, look):
    path, shown = found_page
    seen = look(address(path, filmed["id"], filmed["step"][2]))
    canvas = seen.page.locator("canvas.wmi-sight")
    drawn = canvas.evaluate("c => [...c.getContext('2d').getImageData(0, 0, 8, 8).data].filter((_, i) => i % 4 === 3)")
    assert np.abs(np.array(drawn) - 0.72 * 255 * shown.sight.maps[2].ravel()).max() <= 1.5
    assert canvas.is_hidden(), "the films of two arms begin alike"
    seen.page.locator(".wmi-sightwords input").check()
    film, over = (seen.page.locator(s).bounding_box() for s in (".wmi-film video", "canvas.wmi-sight"))
    assert abs(film["height"] - over["height"]) < 2 and abs(film["x"] - over["x"]) < 2
    assert "occlusion" in seen.page.locator(".wmi-sightwords").text_content()
    seen.page.locator(".wmi-sightwords input").uncheck()
    assert canvas.is_hidden()


@slow
def test_bookmarked_decisions_are_saved_as_triples(page, gallery, filmed, look, tmp_path):
    """By key and by button, with a note; the file is what `wmvla eval --triples` reads."""
    seen = look(address(page, filmed["id"], 17))
    seen.page.locator(".wmi-player").focus()
    seen.page.keyboard.press("b")
    seen.page.keyboard.press("Home")
    seen.page.get_by_role("button", name="Bookmark this decision").click()
    seen.page.get_by_label("Note").nth(0).fill("passes the disc")
    seen.keep("inspector-bookmarks")
    with seen.page.expect_download() as saved: seen.page.get_by_role("button", name="Save bookmarks.json").click()
    saved.value.save_as(tmp_path / "bookmarks.json")
    rows = read_json(tmp_path / "bookmarks.json")
    record = gallery.takes[filmed["id"]].record
    assert [(r["step"], r["decision"], r["note"]) for r in rows] == [(17, 2, "passes the disc"), (0, 0, "")]
    assert (rows[0]["episode"], rows[0]["arm"], rows[0]["memory"]) == (filmed["id"], record.arm, record.memory)
    assert read_triples(tmp_path / "bookmarks.json") == [record.triple]
    seen.page.get_by_role("button", name="step 17").click()
    assert shown_step(seen) == 17 and seen.complaints == []
    seen.page.get_by_role("button", name="Remove").first.click()
    assert seen.page.locator(".wmi-marks li").count() == 1


@slow
def test_a_page_says_that_another_memory_needs_a_kernel(page, filmed, look):
    assert "needs a kernel" in look(address(page, filmed["id"])).page.locator(".wmi-asknote").text_content()


@slow
def test_a_planted_lie_of_a_labels_file_is_marked(gallery, filmed, look, tmp_path):
    """Two files of labels, of the simulator and of a model, through the gallery to the lanes."""
    record = gallery.takes[filmed["id"]].record
    names = "the disc"
    pushed, lied, ends = (record.steps * share // 100 for share in (40, 55, 80))
    parts = [Segment(0, pushed, "approach", names, "The hand moves toward the disc", "the gripper is empty"),
             Segment(pushed, record.steps, "push", names, "The hand pushes the disc", "a finger touches it")]
    lie = Segment(lied, ends, "lift", names, "The hand lifts the disc", "both fingers hold it")
    of = "", "", played_mark(record), record.steps, (names,)
    text = lambda own: (tuple(s.start for s in own), tuple(own), joined_text(own))
    label = lambda backend, own: CocLabel(0, "", *text(own), backend, f"{backend}-1", *of)
    for name, made in (("truth", label("rules", parts)), ("model", label("vlm", [parts[0], lie]))):
        (tmp_path / f"{name}.jsonl").write_text(line_of(made))
    told = dataclasses.replace(gallery, labels={})
    for name in ("truth", "model"): add_labels(told, tmp_path / f"{name}.jsonl")
    path = tmp_path / "told.html"
    path.write_text(gallery_html(told, filmed["id"]))
    seen = look(address(path, filmed["id"], (lied + ends) // 2))
    assert seen.page.locator(".wmi-against").all_text_contents() == ["The hand lifts the disc"]
    said = seen.page.locator(".wmi-now").text_content()
    assert "but meanwhile: The hand pushes the disc" in said
    assert seen.page.locator(".wmi-keyframe").count() == 2
    seen.page.locator(".wmi-keyframe").nth(0).click()
    seen.page.wait_for_function("document.querySelector('.wmi-play').textContent === '▶'")
    assert shown_step(seen) == pushed and seen.complaints == []
    seen.keep("inspector-coc")


@slow
def test_failed_after_grasp_is_grey_with_a_reason_until_somebody_told(page, gallery, filmed, look, tmp_path):
    grey = look(page.as_uri()).page.locator("[data-filter=grasped]")
    assert grey.is_disabled() and "wmvla coc generate RUN" in grey.locator("..").get_attribute("title")
    lost = next(n for n, take in gallery.takes.items() if not take.record.success)
    path = tmp_path / "held.html"
    path.write_text(standalone_html(about_run(gallery.records, "held", grasped={lost: True, filmed["id"]: False}), []))
    seen = look(path.as_uri())
    seen.page.locator("[data-filter=grasped]").check()
    assert seen.page.locator(".wmi-count").text_content().startswith("1 of")
    assert seen.page.locator(".wmi-row").get_attribute("data-id") == lost


@slow
def test_a_row_shows_how_many_trainings_agree_and_a_picture_on_hover(page, gallery, filmed, look):
    seen = look(address(page, filmed["id"]))
    seen.page.locator("[data-filter=seen]").check()
    row = seen.page.locator(f".wmi-row[data-id='{filmed['id']}']")
    own = lambda r: (r.arm, r.memory, r.triple)
    same = [r for r in gallery.records if own(r) == own(gallery.takes[filmed["id"]].record)]
    assert row.locator(".wmi-num").nth(2).text_content() == f"{sum(r.success for r in same)}/{len(same)}"
    row.hover()
    seen.page.wait_for_selector(".wmi-peek:not([hidden])")
    assert seen.page.locator(".wmi-peek").evaluate("p => p.naturalWidth") > 60
    seen.keep("inspector-list")
    seen.page.locator(".wmi-h-same").click()
    assert seen.page.locator(".wmi-h-same").get_attribute("aria-sort") == "ascending"


def test_ids_are_safe_in_pages(gallery):
    assert all(re.fullmatch(r"[\w.+-]+", episode_id(r)) for r in gallery.records)
