"""A script reads what a command made with `tail -n 1`; commands that need a simulator or a training are given what they make."""

import inspect
from pathlib import Path
from types import SimpleNamespace

from wmvla.cli import lerobot_eval, lerobot_train, policies
from wmvla.cli.flags import COMMANDS
from wmvla.cli.main import main  # registers all commands
from wmvla.view.sample_run import example_training

MAKERS = ("collect", "encode", "tokens", "prophet", "train", "eval", "export", "run", "demo", "intervene", "compare", "preflight",
          "data", "check", "coc")


def last_line(capsys, *argv) -> str:
    assert main([str(a) for a in argv]) == 0
    return capsys.readouterr().out.splitlines()[-1]


def test_every_maker_ends_with_it():
    """The one function, and nothing printed after it."""
    for made in (*(COMMANDS[name].execute for name in MAKERS), lerobot_eval.lerobot_eval, lerobot_train.save_evidence):
        lines = inspect.getsource(made).splitlines()
        at = max((i for i, line in enumerate(lines) if "print_made(" in line), default=None)
        assert at is not None, made
        rest = "\n".join(lines[at + 1 :])
        assert rest.count(" print(") == rest.count("file=sys.stderr"), made


def test_collect(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("wmvla.demos.record.collect", lambda root, config: print("recording") or root)
    assert last_line(capsys, "collect", tmp_path / "d", "--tasks", "push-v3,reach-v3") == str(tmp_path / "d")


def test_train(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(policies, "train_job", lambda args: args)
    monkeypatch.setattr("wmvla.train.loop.train_policy", lambda job: example_training("A", 0, "0" * 16))
    flags = ("--store", "s", "--out", tmp_path / "t")
    assert main(["train", "d", *map(str, flags)]) == 0
    *_, said, last = capsys.readouterr().out.splitlines()
    assert last == str(tmp_path / "t/checkpoints/last") and "no gate: arm A has none" in said and "nan" not in said


def test_eval_names_the_damaged_policy_after_the_others_were_played(capsys, monkeypatch, tmp_path):
    def jobs(args, unfit):
        unfit.append("b is damaged.")
        return []

    monkeypatch.setattr(policies, "jobs_from_flags", jobs)
    monkeypatch.setattr(policies, "play_jobs", lambda jobs, args: [])
    assert main(["eval", "a,b", "--tasks", "push-v3", "--out", str(tmp_path / "e")]) == 2
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == str(tmp_path / "e")
    assert "1 of the policies could not be played, the others were: b is damaged." in err


def test_run_and_demo(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("wmvla.studies.papermill.run_notebook", lambda *a, **k: None)
    monkeypatch.setattr("wmvla.studies.papermill.to_html", lambda notebook, page: page)
    assert last_line(capsys, "run", "report", "--out", tmp_path / "r.ipynb") == str(tmp_path / "r.html")
    run = SimpleNamespace(status="stopped", path=Path("runs/x"))
    monkeypatch.setattr("wmvla.studies.demo.run_demo", lambda *a: run)
    assert last_line(capsys, "demo", "--until", "record") == "runs/x"
