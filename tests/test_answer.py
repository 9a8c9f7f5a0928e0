"""The answer, asked of LeRobot's policies: a part from recording to page, stopped and gone on with."""

from dataclasses import replace
from pathlib import Path

import pytest

from wmvla.core import UserError
from wmvla.rollout.records import read_parquet
from wmvla.studies.answer import find_answer, make_part, part_path, read_part
from wmvla.studies.answer_page import write_page

ARMS = ("A", "F-video", "F-hindcast", "F-history")


@pytest.mark.slow
def test_a_part_of_smolvla_leaves_a_table_and_a_page(tmp_path, monkeypatch):
    study, docs = find_answer("gpu_tiny"), tmp_path / "docs"
    question = replace(study.base.question, arms=ARMS)  # a training takes ten seconds
    study = replace(study, base=replace(study.base, question=question))

    assert make_part(study, 0, tmp_path / "runs", docs, workers=1) is None
    prophets = {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/answer-gpu_tiny-*/prophets/*/prophet.json")}
    shared = {p.resolve() for p in prophets}
    assert {p.parent.name.partition("-")[0] for p in shared} == {"future", "past"}, "part 0 makes what the others share"

    def broken(*_, **__): raise UserError("no simulator")

    with monkeypatch.context() as patch:  # something breaks after the trainings
        patch.setattr("wmvla.studies.answer_lerobot.evaluate", broken)
        with pytest.raises(UserError, match="no simulator"):
            make_part(study, 1, tmp_path / "runs", docs, workers=1)
    weights = "runs/answer-gpu_tiny-1-*/arms/*/s0/checkpoints/last/pretrained_model/model.safetensors"
    trained = {p: p.stat().st_mtime_ns for p in tmp_path.glob(weights)}
    assert len(trained) == len(ARMS)
    assert make_part(study, 1, tmp_path / "runs", docs, workers=1) == part_path(docs, 1)
    assert all(p.stat().st_mtime_ns == when for p, when in trained.items()), "what was trained is not trained again"
    assert all(p.stat().st_mtime_ns == when for p, when in prophets.items())
    assert {p.resolve() for p in tmp_path.glob("runs/answer-gpu_tiny-*/prophets/*/prophet.json")} == shared
    table = read_part(part_path(docs, 1))
    assert {r.arm for r in table.records} == {*ARMS}
    assert {r.arm: r.memory for r in table.records} == {
        "A": "off", "F-video": "pred", "F-hindcast": "pred", "F-history": "history"}
    found = {check.name: check for check in table.about.checks}
    assert {"split", "headroom", "trained parameters", "action error", "baseline success"} <= {*found}
    assert found["split"].passed, found["split"].saw
    assert [row.source for row in table.about.ratios] == ["shuffle"] and table.about.question["control"] == ""
    (run,) = tmp_path.glob("runs/answer-gpu_tiny-1-*")
    assert {r.arm for r in read_parquet(run / "blind.parquet")} == {"blind-state", "blind-mean", "blind-nearest"}
    page = Path(write_page(study, docs)).read_text()
    assert "Policies of type `smolvla` (A) and `smolvla_world`" in page and "F-oracle is told" not in page
    assert f"`wmvla run answer -p preset {study.name} -p part 2 -p docs docs`" in page
