"Training as a process: killed and resumed, and several processes in place of one."

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wmvla.data.episodes import DatasetKeys, EpisodeTable
from wmvla.data.splits import Split
from wmvla.latents.views import ArrayStore
from wmvla.policy.trunk import PolicyConfig
from wmvla.policy.world_policy import WorldPolicy, save_policy
from wmvla.runs import read_metrics
from wmvla.train.batches import fit_normalisers, make_data
from wmvla.train.config import TrainConfig, memory_job
from wmvla.train.loop import run_training
from wmvla.train.state import state_file

POLICY = PolicyConfig("F", latent=12, state=3, action=2, width=32, layers=1, heads=2, future=4, horizon=4)
RECIPE = TrainConfig(steps=60, batch=15, log_every=7, save_every=10, ema=0.9)


def data():
    "Ten episodes of noise, the same in every process."
    random = np.random.default_rng(0)
    length, state, action = np.full(10, 12), *random.normal(size=(2, 120, 3)).astype(np.float32)
    table = EpisodeTable(Path("."), "noise", "r0", 10, DatasetKeys("i", "s", "a", "t"), 12 * np.arange(10), length,
                         ("left", "right") * 5, state, action[:, :2].copy())
    latents = torch.from_numpy(random.normal(size=(120, 2, 6)).astype(np.float32))
    store = ArrayStore(latents, length.tolist(), "noise", "r0")
    return make_data(table, Split("noise", "r0", 0, tuple(range(8)), (8, 9)), store, POLICY)


def train(folder: Path, recipe: TrainConfig = RECIPE, pause: float = 0.0):
    "Train into `folder`, going on where a killed one stood; `pause` seconds a step, so that there is time to kill it."
    torch.set_num_threads(1)
    given = data()
    policy = WorldPolicy(POLICY, *fit_normalisers(given)).train()
    if pause: policy.trunk.register_forward_pre_hook(lambda *_: time.sleep(pause))
    training = run_training(policy, given, replace(memory_job(POLICY, recipe, 3), folder=folder), resume=True)
    if training.machine.is_main_process: save_policy(policy.eval(), folder / "checkpoints" / "last")
    return training


def weights(folder: Path, which: str = "last") -> bytes:
    return (folder / "checkpoints" / which / "model.safetensors").read_bytes()


def command(*call: str) -> list[str]:
    return [sys.executable, "-c", f"from test_train import *; train({', '.join(call)})"]


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return kept | {"PYTHONPATH": f"{Path(__file__).parent}{os.pathsep}{Path(__file__).parents[1]}", "OMP_NUM_THREADS": "1"} | more


def test_a_killed_training_ends_in_the_same_bytes(tmp_path):
    whole = train(tmp_path / "whole")
    cut = tmp_path / "cut"
    process = subprocess.Popen(command(f"Path({str(cut)!r})", "pause=0.05"), env=environment())
    deadline = time.time() + 240
    while len(read_metrics(cut / "metrics.jsonl")) < 4 or not state_file(cut).exists():  # beyond step 21, so two saves are made
        assert process.poll() is None and time.time() < deadline, "the training ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not (cut / "checkpoints" / "last").exists()
    resumed = train(cut)
    assert weights(cut) == weights(tmp_path / "whole") and weights(cut, "best") == weights(tmp_path / "whole", "best")
    assert (cut / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    assert [repr(row) for row in resumed.rows] == [repr(row) for row in whole.rows] and resumed.best == whole.best


@pytest.mark.slow
@pytest.mark.parametrize("batch", [15])  # odd: the two processes get 8 and 7 frames, with other masks
def test_two_processes_train_what_one_does(tmp_path, batch):
    quiet = replace(RECIPE, steps=12, batch=batch, latent_noise=0.0, state_noise=0.0, save_every=6, ema=0.0)
    alone = train(tmp_path / "one", quiet)
    recipe = f"replace(RECIPE, steps=12, batch={batch}, latent_noise=0.0, state_noise=0.0, save_every=6, ema=0.0)"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    done = subprocess.run([*launch, *command(f"Path({str(tmp_path / 'two')!r})", recipe)], env=environment(), timeout=300,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = read_metrics(tmp_path / "two" / "metrics.jsonl")
    assert len(rows) == len(read_metrics(tmp_path / "one" / "metrics.jsonl"))
    for row in rows:
        for name in ("loss_action", "loss_world", "grad_norm", "gate_gradient"):
            assert row[name] == pytest.approx(getattr(alone.rows[row["step"]], name), rel=2e-3, abs=1e-6), (row["step"], name)
    from safetensors.torch import load_file

    one, two = (load_file(tmp_path / name / "checkpoints" / "last" / "model.safetensors") for name in ("one", "two"))
    flat = lambda tensors: torch.cat([tensors[name].flatten().float() for name in one])
    apart = (flat(two) - flat(one)).norm() / flat(one).norm()  # Adam makes whole steps of the rounding in a gradient of zero
    assert apart < 2e-4, f"{apart:.1e}; a learning rate 2 % off gives 1.2e-3, a frame fewer in a batch 7.4e-3"
