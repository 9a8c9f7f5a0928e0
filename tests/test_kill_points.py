"""`kill -9` where a command changes a folder: the same command then ends in the same bytes, and leaves nothing else.

A child process stops itself before the n-th rename, removal, or making of a folder. `WMVLA_KILL_POINTS=all` strikes at
every such point (minutes); without it every seventh is struck.
"""

import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from test_whole import record

from wmvla import folders
from wmvla.cli.main import main

CHANGES = ("replace", "rename", "unlink", "remove", "mkdir", "rmdir")
TIMED = ("report.json", "training.safetensors", "run.json", "training.json")  # hold seconds, or what the seconds are hashed into
SIZES = ("--width", 16, "--layers", 1, "--heads", 2, "--batch", 4)
SMALL = ("--small", "enc", "--steps", 2, "--pixels", 32)
COMMANDS = {
    "encode": ("encode", "d", *SMALL, "--cache", "c", "--workers", 1, "--shard_episodes", 2),
    "tokens": ("tokens", "d", "--store", "STORE", "--codes", 4),
    "train": ("train", "d", "--store", "STORE", "--arm", "F", "--steps", 4, "--save_every", 2, *SIZES, "--out", "t"),
    "prophet": ("prophet", "STORE", "--split", "d.split.json", "--steps", 4, "--save_every", 2, "--width", 16, "--heads", 2,
                "--batch", 4, "--out", "p"),
}
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="forks")]


def strike(at: int, count: ctypes.c_int) -> None:
    """From now on this process counts its changes of folders, and is killed before number `at`."""

    def counted(do: Callable) -> Callable:
        def change(*args, **kwargs):
            count.value += 1
            if count.value == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return do(*args, **kwargs)

        return change

    for name in CHANGES:
        setattr(os, name, counted(getattr(os, name)))
    folders.exchange = counted(folders.exchange)


def cache_of(folder: Path) -> Path:
    """What stands for the user's cache, new for each folder, so that equal calls make equal changes."""
    return folder.with_name(f"{folder.name}-cache")


def child(folder: Path, command: tuple, at: int, count: ctypes.c_int) -> None:
    """The command in a process of its own, which leaves with its exit code."""
    os.chdir(folder)
    os.environ["XDG_CACHE_HOME"] = str(cache_of(folder))
    out = os.open(folder.parent / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    torch.set_num_threads(1)
    strike(at, count)
    store = next(iter(folder.glob("c/*/*/*")), "")
    sys.exit(main([str(store if word == "STORE" else word) for word in command]))


# Children are forked from a server that has imported and done nothing else: a child of this process, whose other tests have
# started threads, would wait for ever for a lock that one of those threads held.
SERVER = get_context("forkserver")
SERVER.set_forkserver_preload(["wmvla.cli.main", "wmvla.train.film", "lerobot.datasets.lerobot_dataset"])


def call(folder: Path, command: tuple, at: int = 0) -> tuple[int, int]:
    """(exit code, or minus the signal that ended it; changes of folders) of a command in a child, killed before change `at`."""
    count = SERVER.RawValue(ctypes.c_int, 0)
    process = SERVER.Process(target=child, args=(folder, command, at, count))
    process.start()
    process.join(300)
    assert process.exitcode is not None, f"{command[0]}, struck at change {at}, has not ended after five minutes"
    return process.exitcode, count.value


def content(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder, with its bytes where no clock is in them; the folder's own path is a dot."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix != ".lock")
    own = str(folder).encode()
    return {str(p.relative_to(folder)): None if p.name in TIMED else p.read_bytes().replace(own, b".") for p in files}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """name -> (a folder in which that command is still to run, the same folder after it)."""
    home, found = tmp_path_factory.mktemp("places"), {}
    start = home / "start"
    record(start / "d")
    for name, command in COMMANDS.items():
        done = home / name
        shutil.copytree(start, done)
        code, changes = call(done, command)
        assert code == 0, (done.parent / "said.txt").read_text()
        found[name] = (start, done, changes)
        start = done
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_a_change_and_called_again(name, places, tmp_path):
    start, done, changes = places[name]
    expected, wrong = content(done), {}
    assert changes > 5
    for at in range(1, changes + 1, 1 if os.environ.get("WMVLA_KILL_POINTS") == "all" else 7):
        place = tmp_path / "place"
        shutil.copytree(start, place)
        struck, _ = call(place, COMMANDS[name], at)
        # a first call in a new process makes a few folders more (of libraries), so the last points may not be reached again
        assert struck == -signal.SIGKILL or (struck == 0 and at > changes - 8), at
        code, _ = call(place, COMMANDS[name])
        found = content(place)
        if code or found != expected:
            differs = lambda name, found=found: found.get(name, "no such file") != expected.get(name, "no such file")
            odd = sorted(filter(differs, found.keys() | expected.keys()))
            wrong[at] = (code, odd, (tmp_path / "said.txt").read_text()[-300:] if code else "")
        shutil.rmtree(place)
        shutil.rmtree(cache_of(place), ignore_errors=True)
    print(f"{name}: struck at points of {changes}, {len(wrong)} wrong")
    assert wrong == {}
