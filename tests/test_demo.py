"""The main job end to end at `tiny` size: killed and continued, called again, and made twice with other numbers of workers."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wmvla.cli.main import main
from wmvla.files import read_json, write_json
from wmvla.latents.store import read_meta, write_meta
from wmvla.rollout.records import read_parquet, without_latency, write_parquet
from wmvla.runs import read_run

WMVLA = [Path(sys.executable).parent / "wmvla"]
DEMO = [*WMVLA, "demo", "--preset", "tiny"]


def finish(command: list, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **kwargs)


def digests(run: Path) -> dict[str, str]:
    files = sorted(run.glob("encoder/*.safetensors")) + sorted(run.glob("arms/*/*/checkpoints/last/*.safetensors"))
    return {str(p.relative_to(run)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A run that was killed while it trained its arms, and what it had made by then: (runs folder, run folder, mtimes)."""
    runs = tmp_path_factory.mktemp("runs")
    process = subprocess.Popen([*DEMO, "--runs", runs, "--run-id", "first"], stderr=subprocess.DEVNULL)
    record, deadline = runs / "first" / "run.json", time.time() + 240
    while not (record.exists() and "encode" in read_json(record)["stages"]):
        assert process.poll() is None and time.time() < deadline, "the demo ended or hung before its encode stage"
        time.sleep(0.05)
    time.sleep(2)  # into the training stage
    process.send_signal(signal.SIGKILL)
    process.wait()
    made = [p for name in ("dataset", "encoder") for p in (runs / "first" / name).rglob("*") if p.is_file()]
    return runs, runs / "first", {p: p.stat().st_mtime_ns for p in made}, read_run(runs / "first").status


@pytest.fixture(scope="module")
def done(killed):
    """The same run, continued to its end."""
    runs, run, made, status = killed
    return runs, run, made, status, finish([*DEMO, "--runs", runs, "--run-id", "first"])


@pytest.mark.slow
def test_a_killed_run_continues_after_its_last_finished_stage(done):
    _, run, made, status, continued = done
    assert status == "killed"
    assert continued.returncode == 0, continued.stderr
    assert made and {p: p.stat().st_mtime_ns for p in made} == made, "a finished stage was done again"
    assert "] encode" not in continued.stderr and "] train" in continued.stderr and "] path" in continued.stderr
    assert read_run(run).status == "done"


@pytest.mark.slow
def test_the_last_lines_are_table_verdict_and_report(done):
    _, run, _, _, continued = done
    lines = continued.stdout.strip().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("arm "))
    arms = [line.split()[0] for line in lines[first + 1 : lines.index("", first)]]
    assert arms == ["A", "F-video", "F-history", "F-present", "F-oracle"]
    asked = ("named before the run: F-video - F-history", "memory path: ", "information: ", "control: ")
    assert all(any(line.startswith(start) for line in lines) for start in asked)
    assert lines[-3] == read_json(run / "verdict.json")["sentence"]
    assert lines[-2] == f"look inside: wmvla dashboard {run} --open"
    report = Path(lines[-1])
    assert report == run / "report.html" and 0 < report.stat().st_size < 10e6
    assert not {"src=\"http", "href=\"http"} & set(report.read_text().split("=")), "the report asks the network"


@pytest.mark.slow
def test_a_second_call_reuses_everything(done):
    runs, run, _, _, continued = done
    before = (run / "run.json").read_bytes()
    again = finish([*DEMO, "--runs", runs, "--run-id", "first"])
    assert again.returncode == 0 and again.stdout == continued.stdout
    assert "[" not in again.stderr and (run / "run.json").read_bytes() == before


@pytest.mark.slow
def test_an_old_id_with_another_configuration_is_refused(done):
    runs, run, _, _, _ = done
    other = finish([*DEMO, "--seed", "1", "--runs", runs, "--run-id", "first"])
    assert other.returncode == 2 and "another configuration" in other.stderr


@pytest.fixture(scope="module")
def twin(done):
    """The same preset in one process, uninterrupted, up to the evaluation."""
    runs = done[0]
    end = finish([*DEMO, "--runs", runs, "--run-id", "twin", "--workers", "1", "--until", "evaluate"])
    assert end.returncode == 0, end.stderr
    return done[1], runs / "twin"


@pytest.mark.slow
def test_checkpoints_are_bit_equal(twin):
    first, second = map(digests, twin)
    assert len(first) == 13 and first == second  # the encoder and its decoder, five arms twice, F-oracle-shuffle


@pytest.mark.slow
def test_evaluation_does_not_depend_on_the_number_of_workers(twin):
    first, second = (without_latency(read_parquet(run / "episodes.parquet")) for run in twin)
    assert len(first) == 40 and first == second


@pytest.mark.slow
def test_the_dataset_opens_in_plain_lerobot_and_shows_a_fresh_reset(done):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    from wmvla.demos.record import read_provenance
    from wmvla.sim.suites import EnvConfig, make_environment

    root = done[1] / "dataset"
    dataset = LeRobotDataset("local/dataset", root=root, video_backend="pyav")
    task, seed, _ = read_provenance(root).episodes[0]
    environment = make_environment(EnvConfig(task, read_provenance(root).pixels, read_provenance(root).quality))
    state = environment.reset(seed)
    recorded = (dataset[0]["observation.image"].permute(1, 2, 0).numpy() * 255).round()
    assert np.abs(recorded - environment.image()).mean() < 1.0
    np.testing.assert_array_equal(dataset[0]["observation.state"].numpy(), state)
    assert dataset[0]["task"] == environment.instruction and dataset.num_episodes == 6


def run_command(capsys, *argv) -> tuple[int, str, str]:
    code = main([str(a) for a in argv])
    return code, *capsys.readouterr()


@pytest.mark.slow
def test_each_command_continues_where_another_ended(done, tmp_path, capsys):
    run = done[1]
    dataset, split, encoder = run / "dataset", run / "split.json", run / "encoder"
    code, out, _ = run_command(capsys, "encode", dataset, "--split", split, "--encoder", encoder, "--cache", tmp_path / "cache")
    store = out.splitlines()[-1]
    assert code == 0 and Path(store, "meta.json").exists()
    sizes = ["--width", "32", "--layers", "1", "--heads", "2", "--steps", "5", "--batch", "8"]
    made = ["--split", split, "--store", store]
    code, out, err = run_command(capsys, "train", dataset, *made, "--out", tmp_path / "F", "--arm", "F", *sizes)
    assert code == 0 and "validation action error" in out, err
    checkpoint = tmp_path / "F" / "checkpoints" / "last"
    spoilt = ["--sources", "zero", "random", "shuffle", "oracle", "--out", tmp_path / "spoilt"]
    code, out, err = run_command(capsys, "intervene", dataset, *made, "--checkpoint", checkpoint, *spoilt)
    assert code == 0 and [line.split()[1] for line in out.splitlines()[2:6]] == ["zero", "random", "shuffle", "oracle"], err
    code, out, err = run_command(capsys, "offline", dataset, *made, "--checkpoint", checkpoint)
    assert code == 0 and "| F s0 | constant | copy last | marginal |" in out, err
    rollout = ["--tasks", "drawer-open-v3", "--episodes", "1", "--limit", "8", "--pixels", "32", "--workers", "1"]
    code, out, err = run_command(capsys, "eval", checkpoint, "--encoder", encoder, "--out", tmp_path / "eval", *rollout)
    assert code == 0 and "0/1" in out and (tmp_path / "eval" / "episodes.parquet").exists(), err
    code, out, _ = run_command(capsys, "compare", run, "F-video", "A", "--out", tmp_path / "claim")
    assert code == 0 and out.startswith("F-video - A:")
    assert read_json(tmp_path / "claim" / "claim.json")["roles"]["history"] == ["F-history"]
    code, out, _ = run_command(capsys, "runs", "--runs", done[0])
    assert code == 0 and "first" in out and "done" in out
    code, out, _ = run_command(capsys, "preflight", dataset)
    assert code == 0 and "FAIL" not in out


def refused(capsys, *argv) -> str:
    """The one sentence of a command that must be refused."""
    code, out, err = run_command(capsys, *argv)
    assert code == 2 and err.startswith("wmvla: ") and len(err.strip().splitlines()) == 1, err
    return err


@pytest.mark.slow
def test_a_dataset_without_instructions_is_refused(done, tmp_path, capsys):
    import pandas as pd

    shutil.copytree(done[1] / "dataset", tmp_path / "d")
    tasks = tmp_path / "d" / "meta" / "tasks.parquet"
    table = pd.read_parquet(tasks)
    table.index = [""] * len(table)
    table.to_parquet(tasks)
    assert "no instruction" in refused(capsys, "encode", tmp_path / "d")
    tasks.unlink()
    assert "'task'" in refused(capsys, "encode", tmp_path / "d")
    assert not (tmp_path / "d.split.json").exists()


@pytest.mark.slow
def test_a_checkpoint_of_another_architecture_or_encoder_is_refused(done, tmp_path, capsys):
    run = done[1]
    shutil.copytree(run / "arms" / "A" / "s0", tmp_path / "s0")
    config = tmp_path / "s0" / "checkpoints" / "last" / "config.json"
    saved = read_json(config)
    flags = ["--encoder", run / "encoder", "--tasks", "drawer-open-v3", "--out", tmp_path / "eval"]
    report = {k: v for k, v in read_json(tmp_path / "s0" / "report.json").items() if k != "seal"}
    write_json(tmp_path / "s0" / "report.json", report | {"latents": "0" * 16})
    assert "of encoder 0000000000000000" in refused(capsys, "eval", config.parent, *flags)
    write_json(tmp_path / "s0" / "report.json", report)
    write_json(config, saved | {"type": "smolvla"})
    assert "'smolvla'" in refused(capsys, "eval", config.parent, *flags)
    assert not (tmp_path / "eval").exists()


@pytest.mark.slow
def test_a_store_of_another_recording_is_refused(done, tmp_path, capsys):
    run = done[1]
    store = next((run / "cache").glob("*/*/*"))
    shutil.copytree(store, tmp_path / "store")
    write_meta(tmp_path / "store", replace(read_meta(store), revision="f" * 40))
    made = ["--split", run / "split.json", "--store", tmp_path / "store"]
    said = refused(capsys, "train", run / "dataset", *made, "--out", tmp_path / "F")
    assert "ffffffffffff" in said and "wmvla encode" in said and not (tmp_path / "F").exists()


@pytest.mark.slow
def test_a_store_of_another_encoder_is_refused(done, tmp_path, capsys):
    run = done[1]
    store = next((run / "cache").glob("*/*/*"))
    shutil.copytree(store, tmp_path / "store")
    write_meta(tmp_path / "store", replace(read_meta(store), fingerprint="0" * 16))
    made = ["--store", tmp_path / "store", "--checkpoint", run / "arms" / "F-history" / "s0" / "checkpoints" / "last"]
    said = refused(capsys, "intervene", run / "dataset", *made)
    assert store.name in said and "0" * 16 in said


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished(tmp_path):
    command = [*DEMO, "--runs", tmp_path, "--run-id", "stopped", "--until", "record"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    journal = tmp_path / "stopped" / ".dataset.recording" / "journal.json"
    deadline = time.time() + 60
    while not journal.exists():
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and said.strip().splitlines()[-1].startswith("wmvla: interrupted"), said
    assert "Traceback" not in said, said
    assert read_run(tmp_path / "stopped").status == "failed"
    again = finish(command)
    assert again.returncode == 0 and "stopped after stage record" in again.stdout, again.stderr
    assert (tmp_path / "stopped" / "dataset" / "meta" / "info.json").exists() and not journal.exists()


def test_without_egl_the_packages_are_named(tmp_path):
    hidden = os.environ | {"MUJOCO_GL": "egl", "__EGL_VENDOR_LIBRARY_FILENAMES": str(tmp_path / "none.json")}
    end = finish([*DEMO, "--runs", tmp_path / "runs"], env=hidden)
    assert end.returncode == 2 and "libegl1" in end.stderr and not (tmp_path / "runs").exists()
    assert len(end.stderr.strip().splitlines()) == 1, end.stderr


@pytest.mark.slow
def test_run_json_is_whole(done):
    record = json.loads((done[1] / "run.json").read_text())
    assert list(record["stages"]) == [
        "record", "encode", "ask", "train", "path", "evaluate", "intervene", "judge", "report"]
    assert record["versions"]["mujoco"] == "3.3.2"
    assert record["checks"] and {"name", "passed", "saw", "fix", "unsure", "decides"} == set(record["checks"][0])


@pytest.mark.slow
def test_blind_policies_play_the_triples_of_a_finished_run(done, capsys):
    _, run, *_ = done
    before = digests(run), (run / "episodes.parquet").read_bytes()
    for _ in range(2):  # the second time nothing is trained or played again
        assert main(["blind", str(run), "--beside", "--workers", "1"]) == 0
        said = capsys.readouterr().out.strip().splitlines()
        assert said[-1] == str(run / "blind.json") and said[-2].removeprefix("no ").startswith("headroom in these 2 trainings: ")
        rows, seen = read_parquet(run / "blind.parquet"), {r.triple for r in read_parquet(run / "episodes.parquet")}
        made = {p: p.stat().st_mtime_ns for p in run.glob("blind/*/*/report.json")}
    assert {r.arm for r in rows} == {"blind-state", "blind-mean", "blind-nearest", "no-state", "no-instruction"}
    assert {r.train_seed for r in rows if r.arm == "blind-mean"} == {0, 1}, "each training's own labels are played again"
    assert {r.triple for r in rows} == seen and all(0 <= r.progress <= 1 for r in rows)
    assert made and before == (digests(run), (run / "episodes.parquet").read_bytes())
    assert main(["compare", str(run), "F-video", "A", "--out", str(run / "claims/again")]) == 0
    assert "\n- headroom: " in (run / "claims/again/claim.md").read_text()


@pytest.mark.slow
def test_beside_policies_of_lerobot_a_small_one_of_ours_plays_blind(done, tmp_path, capsys):
    _, run, *_ = done
    names = {"A": ("smolvla", "off"), "F-video": ("smolvla_world-pred", "pred")}
    ours = [r for r in read_parquet(run / "episodes.parquet") if r.arm in names]
    rows = [replace(r, arm=names[r.arm][0], memory=names[r.arm][1]) for r in ours]
    write_parquet(rows, tmp_path / "episodes.parquet")
    store = read_json(run / "latents/encoder.json")["store"]
    other = {**read_json(run / "run.json"), "config": {"preset": {"arms": ["A"]}}}
    for record in (None, other):  # an evaluation, and the run of another study
        if record is not None: write_json(tmp_path / "run.json", record)
        assert main(["blind", str(tmp_path), "--workers", "1"]) == 2
        assert "name their dataset with --dataset" in capsys.readouterr().err
    (tmp_path / "run.json").unlink()
    asked = ["blind", str(tmp_path), "--dataset", str(run / "dataset"), "--split", str(run / "split.json"), "--store", store]
    write_parquet([*rows, replace(rows[0], arm="A", memory="off")], tmp_path / "episodes.parquet")
    assert main([*asked, "--workers", "1"]) == 2 and "name the baseline's checkpoints/last" in capsys.readouterr().err
    write_parquet(rows, tmp_path / "episodes.parquet")
    assert main([*asked, "--workers", "1", "--steps", "5", "--labels", "1"]) == 0
    found = read_json(tmp_path / "blind.json")
    assert set(found["rates"]) == {"smolvla", "smolvla_world-pred", "blind-state", "blind-mean", "blind-nearest"}
    assert {(r.arm, r.train_seed) for r in read_parquet(tmp_path / "blind.parquet")} >= {("blind-state", 0), ("blind-state", 1)}
    assert main(["compare", str(tmp_path), "smolvla_world-pred", "smolvla", "--out", str(tmp_path / "claim")]) == 0
    card = (tmp_path / "claim/claim.md").read_text()
    assert "\n- headroom: " in card and "blind-state after 5 steps on 1 label a task: validation action error" in card
    write_parquet([replace(r, init_seed=r.init_seed + 7) for r in rows], tmp_path / "episodes.parquet")  # other triples
    assert main(["compare", str(tmp_path), "smolvla_world-pred", "smolvla", "--out", str(tmp_path / "claim")]) == 0
    assert "these arms played other triples" in (tmp_path / "claim/claim.md").read_text()
