"""LeRobot policy folders through `lerobot-wm-eval` on MetaWorld: any number of workers, killed and continued, the same rows."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from wmvla.commands.policies import lerobot_wm_eval
from wmvla.evaluate.closed_loop import EvalConfig, EvalJob, evaluate, make_triples
from wmvla.evaluate.records import read_parquet, without_latency

TASKS = ["reach-v3", "drawer-open-v3"]
EVAL = [sys.executable, "-c", "import sys; from wmvla.commands.policies import lerobot_wm_eval as main; sys.exit(main())"]
FLAGS = ["--quality=fast", "--env.task", *TASKS, "--eval.n_episodes=3", "--limit=40", "--device=cpu"]


def save(policy, config, folder: Path, action: dict | None = None) -> Path:
    """A policy folder as `lerobot-train` leaves it; `action`: the statistics of its actions."""
    from lerobot.policies.factory import make_pre_post_processors

    unit = {"mean": torch.zeros(4), "std": torch.ones(4)}
    stats = {"action": action or unit, "observation.state": unit}
    stats["observation.image"] = {"mean": torch.full((3, 1, 1), 0.5), "std": torch.full((3, 1, 1), 0.5)}
    policy.save_pretrained(folder)
    for part in make_pre_post_processors(config, dataset_stats=stats):
        part.save_pretrained(folder)
    return folder


def features(pixels: int) -> dict:
    from lerobot.configs.types import FeatureType, PolicyFeature

    seen = {"observation.image": PolicyFeature(FeatureType.VISUAL, (3, pixels, pixels))}
    seen["observation.state"] = PolicyFeature(FeatureType.STATE, (4,))
    action = {"action": PolicyFeature(FeatureType.ACTION, (4,))}
    return dict(input_features=seen, output_features=action, device="cpu", push_to_hub=False)


def make_act(folder: Path, action: dict | None = None) -> Path:
    """A small untrained ACT."""
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy

    torch.manual_seed(0)
    sizes = dict(dim_model=32, n_heads=2, dim_feedforward=32, n_encoder_layers=1, n_decoder_layers=1, chunk_size=20)
    config = ACTConfig(**features(48), **sizes, n_action_steps=20, use_vae=False, pretrained_backbone_weights=None)
    return save(ACTPolicy(config), config, folder, action)


@pytest.fixture(scope="module")
def act(tmp_path_factory) -> Path:
    return make_act(tmp_path_factory.mktemp("policies") / "act")


@pytest.fixture(scope="module")
def smolvla(tmp_path_factory) -> Path:
    """A random SmolVLA of a few hundred thousand parameters with a word tokenizer; nothing is downloaded."""
    from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
    from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        SmolVLMConfig,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    home = tmp_path_factory.mktemp("smolvla")
    marks = ["<unk>", "<pad>", "<s>", "</s>", "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "\n"]
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(marks + ["open", "a", "drawer", "goal"])}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ("image_token", "fake_image_token", "global_image_token", "end_of_utterance_token")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        extra_special_tokens=dict(zip(special, marks[4:8], strict=True)),
    )  # fmt: skip
    text = dict(model_type="llama", vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=2, pad_token_id=1,
                num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=512)  # fmt: skip
    vision = dict(model_type="smolvlm_vision", hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                  num_attention_heads=2, image_size=64, patch_size=16)  # fmt: skip
    SmolVLMConfig(text_config=text, vision_config=vision, scale_factor=2, image_token_id=4, tie_word_embeddings=False,
                  pad_token_id=1).save_pretrained(home / "vlm")  # fmt: skip
    side = {"longest_edge": 64}
    pictures = SmolVLMImageProcessor(size=side, max_image_size=side, do_image_splitting=False)
    films = SmolVLMVideoProcessor(size=side, max_image_size=side)
    SmolVLMProcessor(pictures, tokenizer, films, image_seq_len=4, chat_template="{{ messages }}").save_pretrained(home / "vlm")
    torch.manual_seed(0)
    sizes = dict(num_vlm_layers=2, num_expert_layers=-1, chunk_size=8, n_action_steps=8, num_steps=2, max_state_dim=8,
                 max_action_dim=8, tokenizer_max_length=12, resize_imgs_with_padding=(64, 64))  # fmt: skip
    config = SmolVLAConfig(**features(48), **sizes, vlm_model_name=str(home / "vlm"), load_vlm_weights=False)
    return save(SmolVLAPolicy(config), config, home / "policy")


def rows(folder: Path) -> list[dict]:
    return sorted(without_latency(read_parquet(folder / "episodes.parquet")), key=str)


@pytest.fixture(scope="module")
def whole(act, tmp_path_factory) -> list[dict]:
    """The rows of an evaluation with four workers that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole")
    assert lerobot_wm_eval([f"--policy.path={act}", *FLAGS, "--workers=4", f"--out={out}", "--videos=1"]) == 0
    assert len(list((out / "videos").glob("*_failure.mp4"))) == 2
    return [row | {"video": ""} for row in rows(out)]


def test_killed_and_continued_with_another_number_of_workers(act, whole, tmp_path):
    command = [*EVAL, f"--policy.path={act}", *FLAGS, f"--out={tmp_path}"]
    process = subprocess.Popen([*command, "--workers=2", "--turns=1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lines, deadline = tmp_path / "rollouts.jsonl", time.time() + 120
    while not (lines.exists() and lines.read_text().count("\n") >= 2):
        assert process.poll() is None and time.time() < deadline, "the evaluation ended or hung before its second episode"
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert not alive, "simulators outlived the evaluation"
    kept = lines.read_text().splitlines()[:2]
    assert lines.read_text().count("\n") < 6, "too late: nothing was left to continue"
    end = subprocess.run([*command, "--workers=1"], capture_output=True, text=True, timeout=200)
    assert end.returncode == 0, end.stderr
    assert lines.read_text().splitlines()[:2] == kept, "a finished episode ran again"
    assert rows(tmp_path) == whole
    assert "executes 10 of 20 actions (it was saved with 20" in end.stdout and "48 px, fast" in end.stdout


def test_smolvla_has_noise_of_its_own_in_every_episode(smolvla, tmp_path):
    def run(noise_seed=0, **settings):
        jobs = [EvalJob(smolvla, None, "smolvla", 0, t) for t in make_triples(TASKS, 2, noise_seed=noise_seed)]
        traced = [EvalJob(j.policy_folder, None, j.arm, 0, j.triple, trace_path=f"{i}.json") for i, j in enumerate(jobs)]
        config = EvalConfig(quality="fast", limit=12, device="cpu", folder=str(tmp_path), **settings)
        return without_latency(evaluate(traced, config))

    assert run(workers=1) == run(workers=2, turns=1), "company changes an episode"
    assert run(workers=2, batch=3) == run(workers=1, batch=3, turns=3)


def test_noise_reaches_the_actions(smolvla):
    import numpy as np

    from wmvla.core import Triple
    from wmvla.evaluate.agents import Request, Seen
    from wmvla.evaluate.lerobot_agent import LeRobotAgent

    agent = LeRobotAgent(smolvla, batch=2)
    picture = {"observation.image": np.zeros((1, 48, 48, 3), np.uint8)}
    ask = lambda slot, noise: Request(slot, Triple("reach-v3", 1, noise), "reach a goal",
                                      Seen(0, (0,), np.zeros((1, 4), np.float32), picture))  # fmt: skip
    together = [c.actions for c in agent.decide([ask(0, 0), ask(1, 1), ask(2, 0)])]
    alone = [agent.decide([ask(3, noise)])[0].actions for noise in (0, 1)]
    assert np.array_equal(together[0], together[2]) and np.array_equal(together[0], alone[0])
    assert np.array_equal(together[1], alone[1]) and not np.array_equal(together[0], together[1])
    assert agent.noisy and agent.way == "batch" and agent.batches.size == 2


def test_a_folder_without_its_processors_is_refused(act, tmp_path, capsys):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in act.iterdir():
        if not file.name.startswith("policy_postprocessor"):
            os.symlink(file, broken / file.name)
    assert lerobot_wm_eval([f"--policy.path={broken}", *FLAGS, f"--out={tmp_path / 'out'}"]) == 2
    assert "without policy_postprocessor.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def lerobot_success(folder: Path, task: str, seeds: list[int], limit: int) -> list[bool]:
    """What LeRobot's own evaluation loop says of a policy folder, on these initial states."""
    from lerobot.envs import make_env, make_env_pre_post_processors
    from lerobot.envs.configs import MetaworldEnv
    from lerobot.scripts.lerobot_eval import rollout

    from wmvla.evaluate.lerobot_agent import open_policy, open_processors

    config = MetaworldEnv(task=task)
    vector = make_env(config, n_envs=len(seeds), use_async_envs=False)[task][0]
    real = vector.call
    vector.call = lambda name, *a, **k: (limit,) * len(seeds) if name == "_max_episode_steps" else real(name, *a, **k)
    policy = open_policy(folder, 10)
    processors = *make_env_pre_post_processors(config, policy.config), *open_processors(folder, policy.config)
    played = rollout(vector, policy, *processors, seeds=seeds)
    vector.close()
    return played["success"].any(1).tolist()


def test_success_agrees_with_lerobot_eval(tmp_path):
    """A policy whose statistics make it push in one direction closes some drawers and not others: the same ones."""
    folder = make_act(tmp_path / "push", {"mean": torch.tensor([-1.0, 0.0, -1.0, -1.0]), "std": torch.zeros(4)})
    jobs = [EvalJob(folder, None, "act", 0, t) for t in make_triples(["drawer-close-v3"], 4, first_seed=1000)]
    ours = [r.success for r in evaluate(jobs, EvalConfig(quality="fast", limit=30, device="cpu", workers=1))]
    assert ours == [False, True, False, True]
    assert lerobot_success(folder, "drawer-close-v3", [1000, 1001, 1002, 1003], 30) == ours
