"""A Prophet of its own through the command line: made from a store, given to arms, refused where it has seen what is to judge."""

import json

import pytest
import torch
from test_whole import record

from wmvla.cli.main import main

SIZES = ("--width", "16", "--heads", "2", "--batch", "4", "--steps", "4")
ARM = (*SIZES, "--layers", "1")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "A dataset, its split, its latents and a Prophet of the train part."
    home = tmp_path_factory.mktemp("prophet")
    record(home / "d")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        assert main("encode d --small enc --steps 2 --pixels 32 --cache c --workers 1".split()) == 0
        store = str(next(home.glob("c/*/*/*")).relative_to(home))
        assert main(["prophet", store, "--split", "d.split.json", *SIZES, "--out", "p"]) == 0
    return home, store


@pytest.fixture
def run(place, monkeypatch, capsys):
    "Runs a command in the folder; its exit code and what it said."
    monkeypatch.chdir(place[0])
    capsys.readouterr()

    def call(*words):
        code = main([place[1] if w == "STORE" else w for w in words])
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


def test_the_arms_that_are_given_one(run, place):
    "F-video keeps it to the bit, F trains it on, F --freeze keeps it."
    before = json.loads((place[0] / "p/prophet.json").read_text())
    assert before["predicts"] == "future" and before["seen"][0]["episodes"]
    for arm, flags, moved in (("F-video", (), "asked to stay"), ("F", (), "moved by"), ("F", ("--freeze",), "asked to stay")):
        out = f"t-{arm}-{len(flags)}"
        code, said = run("train", "d", "--store", "STORE", "--arm", arm, "--prophet", "p", *flags, *ARM, "--out", out)
        line = next(line for line in said.splitlines() if line.startswith("prophet"))
        assert code == 0 and moved in line, said


def test_what_is_refused(run):
    "Every wrong pairing is one sentence and exit code 2."
    arm = lambda name, *more: run("train", "d", "--store", "STORE", "--arm", name, *more, *ARM, "--out", "refused")
    assert arm("F-video")[0] == 2 and "name its folder with --prophet" in arm("F-video")[1]
    assert "has no Prophet; leave --prophet out" in arm("A", "--prophet", "p")[1]
    assert "--predicts past" in arm("F-hindcast", "--prophet", "p")[1]
    assert "make one with `wmvla prophet`" in arm("F-video", "--prophet", "nowhere")[1]
    assert run("prophet", "STORE", *SIZES, "--out", "everything")[0] == 0
    code, said = arm("F-video", "--prophet", "everything")
    assert code == 2 and "of the validation part" in said
    code, said = run("prophet", "STORE", "--seed", "1", *SIZES, "--out", "everything")
    assert code == 2 and "made with other settings or from other data" in said
    code, said = run("prophet", "STORE", *SIZES, "--out", "d")
    assert code == 2 and len(said.strip().splitlines()) == 1, said


def test_found_again(run):
    "The same command trains nothing, and says the same of what it found."
    first, again = (run("prophet", "STORE", "--predicts", "past", *SIZES, "--out", "past") for _ in range(2))
    assert first[0] == again[0] == 0 and "train Prophet" in first[1] and "train Prophet" not in again[1]
    assert first[1].splitlines()[:2] == again[1].splitlines() and again[1].splitlines()[-1] == "past"
    assert again[1].startswith("Prophet of the past")
