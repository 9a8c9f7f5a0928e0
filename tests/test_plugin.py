"""The plugin as LeRobot finds it: `wmvla export`, then LeRobot's own commands, which never heard of wmvla."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch

import wmvla
from wmvla.data.normalise import Normaliser
from wmvla.encoders.small import SmallEncoder, SmallEncoderConfig, save_encoder
from wmvla.files import read_json
from wmvla.policy.trunk import PolicyConfig
from wmvla.policy.world_policy import WorldPolicy, save_policy
from wmvla.rollout.closed_loop import evaluate
from wmvla.rollout.jobs import EvalConfig, EvalJob, make_triples
from wmvla.rollout.records import without_latency

ROOT = Path(__file__).parent.parent
TASK = "drawer-close-v3"
LIMIT = 30
# LeRobot's main function; MetaWorld's 500 steps at 480 pixels would take minutes
LEROBOT_EVAL = f"""
import sys
from lerobot.envs.metaworld import MetaworldEnv
build = MetaworldEnv.__init__
def short(self, *args, **kwargs):
    build(self, *args, **kwargs)
    self._max_episode_steps = {LIMIT}
MetaworldEnv.__init__ = short
from lerobot.scripts.lerobot_eval import main
main()
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    """A policy that pushes forward and down, a little differently in every picture: our checkpoint, and the exported folder."""
    from wmvla.cli.export import find_plugin, save_folder

    home = tmp_path_factory.mktemp("plugin")
    torch.manual_seed(0)
    save_encoder(SmallEncoder(SmallEncoderConfig(pixels=32, width=8)).eval(), home / "encoder")
    config = PolicyConfig(arm="F", latent=16 * 8, width=16, layers=1, heads=2, fusion_start="gate", memory_content="state")
    actions = Normaliser(torch.tensor([-1.0, 0.0, -1.0, -1.0]), torch.full((4,), 0.05))
    policy = WorldPolicy(config, Normaliser.identity(128), Normaliser.identity(4), actions)
    policy.fusion.gate.data.fill_(1.0)
    save_policy(policy, home / "F")
    cameras = {"observation.image": (480, 480)}  # what LeRobot's MetaWorld draws
    save_folder(find_plugin().of_checkpoint(home / "F", home / "encoder", cameras), home / "exported")
    return {"checkpoint": home / "F", "encoder": home / "encoder", "exported": home / "exported"}


def test_one_version_and_a_name_with_underscores():
    plugin = tomllib.loads((ROOT / "lerobot_policy_world_modality/pyproject.toml").read_text())["project"]
    assert distribution(plugin["name"]).metadata["Name"] == plugin["name"] == "lerobot_policy_world_modality"
    assert plugin["version"] == wmvla.__version__ == distribution(plugin["name"]).version


@pytest.mark.slow
def test_lerobot_eval_offers_both_types():
    command = [Path(sys.executable).parent / "lerobot-eval", "--policy.type=world_policy", "--help"]
    help = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert help.returncode == 0, help.stderr[-2000:]
    assert re.search(r"--policy\.memory\b.*source at rollout", help.stdout, re.S), "the configuration's fields are not its flags"
    types = re.search(r"--policy\.type \{(.*?)\}", help.stdout)[1].split(",")
    assert {"world_policy", "smolvla_world", "smolvla"} <= set(types)


@pytest.mark.slow
def test_success_agrees_with_lerobot_eval(made, tmp_path):
    """Checkpoint and exported folder play the same episodes, step by step; LeRobot's command, which draws by itself, agrees."""
    triples = make_triples([TASK], 2, first_seed=1000)
    play = lambda folder, encoder, **more: evaluate(
        [EvalJob(folder, encoder, "F", 0, t) for t in triples],
        EvalConfig(limit=LIMIT, n_action_steps=8, device="cpu", workers=1, **more),
    )
    ours = play(made["checkpoint"], made["encoder"], pixels=480, quality="full")
    theirs = play(made["exported"], None)
    silent = {"memory": "", "gate": None, "gate_share": None, "attention_entropy": None}  # figures that LeRobot does not ask for
    assert [r | silent for r in without_latency(theirs)] == [r | silent for r in without_latency(ours)]
    assert [r.success for r in ours] == [False, True]
    flags = [f"--policy.path={made['exported']}", "--env.type=metaworld", f"--env.task={TASK}", "--eval.n_episodes=2",
             "--eval.batch_size=1", "--seed=1000", f"--output_dir={tmp_path / 'out'}"]  # fmt: skip
    done = subprocess.run([sys.executable, "-c", LEROBOT_EVAL, *flags], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    said = read_json(tmp_path / "out/eval_info.json")
    assert said["per_task"][0]["metrics"]["successes"] == [False, True]
