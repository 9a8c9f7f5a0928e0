"""SIGTERM, Ctrl-C and `kill -9` in the middle of `wmvla replay`, `coc generate`, `check path`, `intervene`, `lerobot-wm-eval`.

How each ends, that no process and no file but finished work stays, and that the same command then ends in the same bytes.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from test_closed_loop import METAWORLD, act, flags  # noqa: F401
from test_kill_points import SERVER, TIMED

from wmvla.cli.lerobot_eval import lerobot_wm_eval
from wmvla.cli.main import main
from wmvla.data.episodes import read_episodes
from wmvla.demos.replay import replay
from wmvla.rollout.records import read_episode_rows, read_parquet, without_latency
from wmvla.rollout.trace import read_trace

STROKES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}
TASKS = ("coffee-button-v3", "handle-press-v3")  # the quickest
TRAINING = ("--steps", 2, "--width", 16, "--layers", 1, "--heads", 2, "--batch", 4, "--out", "t")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="forks")]


@dataclass(frozen=True)
class Command:
    """A command, and the file that gets a line for each part of its work."""

    name: str  # what its last sentence begins with
    words: tuple
    lines: str  # or a pattern: then each file is a part
    parts: int
    start: int = 0  # lines that are no parts

    def done(self, folder: Path) -> int:
        """Parts that are finished."""
        if "*" in self.lines:
            return len(list(folder.glob(self.lines)))
        file = folder / self.lines
        return file.read_bytes().count(b"\n") - self.start if file.is_file() else 0


def child(folder: Path, command: Command) -> None:
    """The command in a process of its own, which leaves with its exit code."""
    beside = lambda name: folder.with_name(f"{folder.name}-{name}")
    beside("tmp").mkdir(exist_ok=True)
    os.chdir(folder)
    os.environ |= {"XDG_CACHE_HOME": str(beside("cache")), "TMPDIR": str(beside("tmp"))}
    tempfile.tempdir = None
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(beside(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    program = lerobot_wm_eval if command.name == "lerobot-wm-eval" else main
    sys.exit(program([str(word) for word in command.words]))


def begin(folder: Path, command: Command):
    process = SERVER.Process(target=child, args=(folder, command))
    process.start()
    return process


def said(folder: Path, name: str = "err") -> str:
    return folder.with_name(f"{folder.name}-{name}").read_text()


def finish(folder: Path, command: Command) -> str:
    """The command to its end; what it printed."""
    process = begin(folder, command)
    process.join(300)
    assert process.exitcode == 0, said(folder)
    return said(folder, "out")


def content(folder: Path) -> dict:
    """Every file below a folder: its bytes, or the rows of episodes and the traces of decisions without the time they took."""
    found = {}
    for path in (p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        if path.name == "rollouts.jsonl":
            found[name] = sorted(map(str, without_latency(list(read_episode_rows(path).values()))))
        elif path.name == "episodes.parquet":
            found[name] = list(map(str, without_latency(read_parquet(path))))
        elif path.parent.name == "traces":
            trace = read_trace(path)
            found[name] = [trace.step.tolist(), trace.executed.tolist(), trace.actions.tolist()]
        else:
            found[name] = None if path.name in TIMED else path.read_bytes()
    return found


def strike(folder: Path, command: Command, number: int) -> None:
    """Let the command do a part of its work and end it; nothing of it runs any more, and it has said why it ended."""
    process, deadline = begin(folder, command), time.time() + 200
    while not command.done(folder):
        assert process.is_alive() and time.time() < deadline, said(folder)
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, number)
    process.join(30)
    assert process.exitcode == STROKES[number], said(folder)
    assert not psutil.wait_procs(children, timeout=10)[1], "a process outlived the command"
    assert 0 < command.done(folder) < command.parts, "nothing was left to do"
    if number == signal.SIGKILL:
        return
    sentences = [line for line in said(folder).splitlines() if line.startswith(f"{command.name}: ")]
    assert len(sentences) == 1 and said(folder).endswith(sentences[0] + "\n") and "Traceback" not in said(folder)
    assert "interrupted" in sentences[0] and "continues" in sentences[0]
    left = folder.with_name(f"{folder.name}-tmp").iterdir()
    assert not [p for p in left if command.name == "wmvla" or not p.match("tmp*.json")]  # LeRobot leaves one a policy it reads
    assert not [p for p in folder.rglob("*") if ".wip." in p.name or p.suffix == ".lock"]


def check(start: Path, command: Command, tmp_path: Path) -> None:
    """Each stroke, followed by the same command, against one that nothing disturbed; both in copies of `start`."""
    whole = tmp_path / "whole"
    shutil.copytree(start, whole)
    printed, expected = finish(whole, command), content(whole)
    for number in STROKES:
        torn = tmp_path / signal.Signals(number).name
        shutil.copytree(start, torn)
        strike(torn, command, number)
        again, found = finish(torn, command), content(torn)
        differs = sorted(name for name in found | expected if found.get(name) != expected.get(name))
        assert not differs, (number, differs)
        assert again == printed or "ms a decision" in printed, (number, again)


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    """A folder with six episodes of two tasks, below `d`."""
    place = tmp_path_factory.mktemp("recording") / "start"
    place.mkdir()
    asked = ("--tasks", *TASKS, "--episodes_per_task", 3, "--pixels", 32, "--workers", 1)
    finish(place, Command("wmvla", ("collect", "d", *asked), "", 0))
    return place


def test_replay(recording, tmp_path):
    check(recording, Command("wmvla", ("replay", "d", "--workers", 2), ".d.replay.jsonl", 6, start=1), tmp_path)


def test_labels(recording, tmp_path):
    check(recording, Command("wmvla", ("coc", "generate", "d", "--out", "d.jsonl", "--workers", 1), "d.jsonl", 6), tmp_path)


def encoded(recording: Path, start: Path) -> None:
    """A copy of the recording, with the latents of a small encoder."""
    shutil.copytree(recording, start)
    words = ("encode", "d", "--small", "enc", "--steps", 2, "--pixels", 32, "--cache", "c", "--workers", 1)
    finish(start, Command("wmvla", words, "", 0))


def test_path(recording, tmp_path):
    start = tmp_path / "start"
    encoded(recording, start)
    words = with_store(start, ("check", "path", "d", "--store", "STORE", "--seeds", 0, 1, *TRAINING[:-2], "--out", "p"))
    check(start, Command("wmvla", words, "p/**/report.json", 4), tmp_path)


def test_interventions_in_closed_loop(recording, tmp_path):
    start = tmp_path / "start"
    encoded(recording, start)
    train = ("train", "d", "--store", "STORE", "--arm", "F", *TRAINING)
    finish(start, Command("wmvla", with_store(start, train), "", 0))
    asked = ("--store", "STORE", "--checkpoint", "t/checkpoints/last", "--sources", "zero", "shuffle", "--samples", 8)
    played = ("--closed_loop", "--encoder", "enc", "--tasks", TASKS[0], "--episodes", 2, "--limit", 30, "--out", "i")
    words = with_store(start, ("intervene", "d", *asked, *played, "--workers", 1, "--turns", 1))
    check(start, Command("wmvla", words, "i/rollouts.jsonl", 6), tmp_path)


def with_store(folder: Path, words: tuple) -> tuple:
    """The words with the latent store in the place of STORE."""
    return tuple(str(next(folder.glob("c/*/*/*")).relative_to(folder)) if word == "STORE" else word for word in words)


def test_lerobots_policies(act, tmp_path):  # noqa: F811
    (tmp_path / "start").mkdir()
    words = (*flags(METAWORLD, act(METAWORLD), 4, Path("e")), "--workers=1", "--turns=1", "--trace=light")
    check(tmp_path / "start", Command("lerobot-wm-eval", words, "e/rollouts.jsonl", 4), tmp_path)


MOVING = ("coffee-push-v3+moving(mm=2,stop=0.1)+latency(1)", "plate-slide-v3+moving(level=3,mm=2,stop=0.1)+delay(2)")
RECORDER = """
import os, signal, wmvla.demos.record as r
write, written = r.write_episode, []
def write_or_die(dataset, episode):
    if len(written) == {most}: os.kill(os.getpid(), signal.SIGKILL)
    write(dataset, episode)
    written.append(episode)
r.write_episode = write_or_die
r.collect({folder!r}, r.CollectConfig({tasks!r}, 2, 32, workers=1, commit_every=1))
"""


def test_a_recording_of_worlds_that_move(tmp_path):
    """Killed at its third episode and called again: the same recording, and its actions lead to the same states."""
    ends = []
    for name, most in (("whole", 99), ("torn", 2), ("torn", 99)):
        script = RECORDER.format(most=most, folder=str(tmp_path / name), tasks=MOVING)
        ends.append(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).returncode)
    assert ends == [0, -signal.SIGKILL, 0]
    whole, torn = (read_episodes(tmp_path / name) for name in ("whole", "torn"))
    assert whole.n_episodes == 4 and whole.revision == torn.revision
    assert (whole.state == torn.state).all() and (whole.action == torn.action).all()
    rows = replay(tmp_path / "torn", workers=1)
    assert [(row.success, row.max_state_error) for row in rows] == [(True, 0)] * 4
    assert {row.task for row in rows} == {*MOVING}
