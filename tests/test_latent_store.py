"""A latent store under workers, a second writer and `kill -9`: the same bytes as one undisturbed writer makes."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from wmvla.data.episodes import read_episodes, stream_episode
from wmvla.encoders.catalogue import EncoderConfig, open_encoder
from wmvla.encoders.small import SmallEncoder, SmallEncoderConfig, save_encoder
from wmvla.files import read_json
from wmvla.latents.repair import repair_store
from wmvla.latents.write import build_store, store_path

EPISODES = 9


def slow_stream(table, episode):
    """Decode an episode after a pause, so that a test can come between two shards."""
    time.sleep(0.4)
    yield from stream_episode(table, episode)


def encode(root: Path, cache: str, workers: int = 1, decode=stream_episode):
    """The store of the dataset and encoder below `root`."""
    table = read_episodes(root / "walks")
    load = partial(open_encoder, EncoderConfig(encoder=str(root / "encoder")))
    options = {"shard_episodes": 1, "workers": workers, "load": load, "decode": decode}
    return build_store(table, load("cpu"), root / cache, **options)


def contents(root: Path, cache: str) -> dict[str, bytes]:
    """Every file below a cache and its bytes."""
    return {str(p.relative_to(root / cache)): p.read_bytes() for p in sorted((root / cache).rglob("*")) if p.is_file()}


def record(root: Path) -> None:
    """Nine episodes of a square that wanders, as h264 video."""
    from lerobot.configs import RGBEncoderConfig
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    vector = {"dtype": "float32", "shape": (4,), "names": None}
    picture = {"dtype": "video", "shape": (32, 32, 3), "names": ["height", "width", "channels"]}
    features = {"observation.image": picture, "observation.state": vector, "action": vector}
    quick = RGBEncoderConfig(vcodec="h264", g=2)
    dataset = LeRobotDataset.create("local/walks", fps=10, features=features, root=root, use_videos=True, rgb_encoder=quick)
    for episode in range(EPISODES):
        for t in range(8 + episode):
            image = np.full((32, 32, 3), 90, np.uint8)
            image[2 * t % 24 :][:8, episode * 2 :][:, :8] = (250, 30, 30)
            vectors = {"observation.state": np.full(4, t, np.float32), "action": np.zeros(4, np.float32)}
            dataset.add_frame({"observation.image": image, "task": "wander"} | vectors)
        dataset.save_episode()
    dataset.finalize()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A dataset, an encoder, and the store that one writer makes (in `alone`)."""
    import torch

    root = tmp_path_factory.mktemp("latents")
    record(root / "walks")
    torch.manual_seed(0)
    save_encoder(SmallEncoder(SmallEncoderConfig(pixels=32, side=2, width=8)).eval(), root / "encoder")
    encode(root, "alone")
    return root


def start(root: Path, cache: str, workers: int) -> subprocess.Popen:
    """`encode` with the slow decoder in a process of its own, in a new process group."""
    code = f"from test_latent_store import *; encode(Path({str(root)!r}), {cache!r}, {workers}, slow_stream)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, start_new_session=True)


def living(session: int) -> list[str]:
    """Processes of a session that still run (a zombie has ended)."""
    states = subprocess.run(["ps", "-s", str(session), "-o", "stat="], capture_output=True, text=True).stdout.split()
    return [state for state in states if not state.startswith("Z")]


def meta_path(root: Path, cache: str) -> Path:
    """`meta.json` of the store below a cache."""
    encoder = open_encoder(EncoderConfig(encoder=str(root / "encoder")))
    return store_path(read_episodes(root / "walks"), encoder, root / cache) / "meta.json"


def test_workers_make_the_same_bytes(root):
    encode(root, "two workers", workers=2)
    assert contents(root, "two workers") == contents(root, "alone") and len(contents(root, "alone")) == EPISODES + 1


@pytest.mark.slow
def test_two_writers_at_once_make_the_same_bytes(root):
    writers = [start(root, "two writers", workers=1) for _ in range(2)]
    said = [writer.communicate(timeout=120)[1].decode() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], said
    assert contents(root, "two writers") == contents(root, "alone")
    shares = [int(line.rsplit("/", 1)[0].rsplit(" ", 1)[-1]) for line in (s.strip().splitlines()[-1] for s in said)]
    assert sum(shares) == EPISODES and min(shares) > 0, f"each episode was encoded by one of the two, not {shares}"


def test_killed_and_resumed_makes_the_same_bytes(root):
    writer, meta = start(root, "killed", workers=2), meta_path(root, "killed")
    deadline = time.time() + 60
    while not (meta.exists() and read_json(meta)["done"]):
        assert writer.poll() is None and time.time() < deadline, "it ended or hung before its first shard"
        time.sleep(0.05)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    while living(writer.pid):  # its workers die with it
        assert time.time() < deadline, "a worker outlived its parent"
        time.sleep(0.05)
    done = read_json(meta)["done"]
    assert 0 < len(done) < EPISODES, "it was to be killed in the middle"
    before = {name: (meta.parent / name).stat().st_mtime_ns for name in done}
    encode(root, "killed")
    assert contents(root, "killed") == contents(root, "alone")
    assert {name: (meta.parent / name).stat().st_mtime_ns for name in done} == before, "finished shards were made again"


def test_a_damaged_shard_is_repaired_to_the_same_bytes(root):
    store, encoder = encode(root, "damaged"), open_encoder(EncoderConfig(encoder=str(root / "encoder")))
    shard = store.root / "shard-00004.npy"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert repair_store(store.root, read_episodes(root / "walks"), encoder) == ["shard-00004.npy"]
    encode(root, "damaged")
    assert contents(root, "damaged") == contents(root, "alone")
