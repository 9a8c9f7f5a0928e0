"""LeRobot policy folders through `lerobot-wm-eval`: any number of workers, killed and continued, the same rows as LeRobot's.

Rows hold a hash of all executed actions, so they are equal only where the episodes were.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from wmvla.cli.lerobot_eval import lerobot_wm_eval
from wmvla.rollout.closed_loop import evaluate
from wmvla.rollout.jobs import EvalConfig, EvalJob, make_triples
from wmvla.rollout.records import read_parquet, without_latency
from wmvla.rollout.trace import find_trace, read_trace
from wmvla.sim.suites import camera_keys

METAWORLD, LIBERO = "drawer-close-v3", "libero_spatial-0"
EVAL = [sys.executable, "-c", "import sys; from wmvla.cli.lerobot_eval import lerobot_wm_eval as main; sys.exit(main())"]
SHORT = {METAWORLD: 40, LIBERO: 14}  # environment steps; the untrained ACT closes some drawers in 24 to 29


def save(policy, config, folder: Path) -> Path:
    """A policy folder as `lerobot-train` leaves it, whose statistics make an untrained MetaWorld policy push."""
    from lerobot.policies.factory import make_pre_post_processors

    wide = lambda n, std: {"mean": torch.zeros(n), "std": torch.full((n,), std)}
    state, action = (f.shape[0] for f in (config.robot_state_feature, config.action_feature))
    stats = {"observation.state": wide(state, 1.0), "action": wide(action, 0.3)}
    if action == 4:
        stats["action"]["mean"] = torch.tensor([-1.0, 0.0, -1.0, -1.0])
    for key in config.image_features:
        stats[key] = {"mean": torch.full((3, 1, 1), 0.5), "std": torch.full((3, 1, 1), 0.5)}
    policy.save_pretrained(folder)
    for part in make_pre_post_processors(config, dataset_stats=stats):
        part.save_pretrained(folder)
    return folder


def features(pixels: int, task: str = METAWORLD) -> dict:
    from lerobot.configs.types import FeatureType, PolicyFeature

    state, action = (8, 7) if task == LIBERO else (4, 4)
    seen = {key: PolicyFeature(FeatureType.VISUAL, (3, pixels, pixels)) for key in camera_keys(task)}
    seen["observation.state"] = PolicyFeature(FeatureType.STATE, (state,))
    action = {"action": PolicyFeature(FeatureType.ACTION, (action,))}
    return dict(input_features=seen, output_features=action, device="cpu", push_to_hub=False)


@pytest.fixture(scope="module")
def act(tmp_path_factory):
    """A small untrained ACT for a task's benchmark."""
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy

    def make(task: str) -> Path:
        torch.manual_seed(0)
        sizes = dict(dim_model=32, n_heads=2, dim_feedforward=32, n_encoder_layers=1, n_decoder_layers=1, chunk_size=20)
        config = ACTConfig(**features(48, task), **sizes, n_action_steps=20, use_vae=False, pretrained_backbone_weights=None)
        return save(ACTPolicy(config), config, tmp_path_factory.mktemp("act") / "policy")

    return make


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


def flags(task: str, folder: Path, episodes: int, out: Path) -> list[str]:
    shared = ["--quality=fast", "--device=cpu", f"--limit={SHORT[task]}", "--env.task", task]
    return [*shared, f"--policy.path={folder}", f"--eval.n_episodes={episodes}", f"--out={out}"]


def rows(folder: Path) -> list[dict]:
    """Sorted and without videos, of which only one side of a comparison has any."""
    return sorted(({**row, "video": ""} for row in without_latency(read_parquet(folder / "episodes.parquet"))), key=str)


def kill_in_the_middle(command: list[str], lines: Path, episodes: int) -> list[str]:
    """Kill an evaluation once two of its episodes are finished, and see that its simulators die too; the finished lines."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 200
    while not (lines.exists() and lines.read_text().count("\n") >= 2):
        assert process.poll() is None and time.time() < deadline, "the evaluation ended or hung before its second episode"
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive, "simulators outlived the evaluation"
    assert lines.read_text().count("\n") < episodes, "too late: nothing was left to continue"
    return lines.read_text().splitlines()[:2]


def check_traces(folder: Path) -> None:
    """Every row has its trace, whole, and no other file lies beside them."""
    records = read_parquet(folder / "episodes.parquet")
    paths = [find_trace(folder, record) for record in records]
    assert sorted(folder.glob("traces/*")) == sorted(paths)
    for path, record in zip(paths, records, strict=True):
        trace = read_trace(path)
        assert trace.record.steps == record.steps and trace.step[-1] < record.steps <= trace.step[-1] + trace.executed[-1]
        assert trace.attention is None and trace.actions.shape[1] == 20  # an ACT: its whole chunk, and no memory


def check_workers_and_kill(task: str, folder: Path, episodes: int, tmp_path: Path, workers: tuple[int, int]) -> list[dict]:
    """Four workers that nobody disturbs, and `workers` before and after a kill, who keep traces: the same rows, returned."""
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert lerobot_wm_eval([*flags(task, folder, episodes, whole), "--workers=4", "--turns=1", "--videos=1"]) == 0
    before, after = ([*flags(task, folder, episodes, torn), f"--workers={n}", "--turns=1", "--trace=light"] for n in workers)
    kept = kill_in_the_middle([*EVAL, *before], torn / "rollouts.jsonl", episodes)
    assert lerobot_wm_eval(after) == 0
    assert (torn / "rollouts.jsonl").read_text().splitlines()[:2] == kept, "a finished episode ran again"
    found = rows(whole)
    assert rows(torn) == found
    assert len({row["actions"] for row in found}) == len(found) == episodes, "every episode is another one"
    check_traces(torn)
    assert not (whole / "traces").exists()
    return found


@pytest.mark.slow
def test_killed_and_continued_with_another_number_of_workers(act, tmp_path, capsys):
    found = check_workers_and_kill(METAWORLD, act(METAWORLD), 6, tmp_path, (2, 1))
    assert {row["success"] for row in found} == {True, False} and len({row["steps"] for row in found}) > 2
    assert [p.name.rpartition("_")[2] for p in (tmp_path / "whole/videos").iterdir()] == ["success.mp4"]
    said = capsys.readouterr().out
    assert "executes 10 of 20 actions (it was saved with 20" in said and "48 px, fast" in said


@pytest.mark.slow
def test_one_and_four_workers_and_a_kill_on_libero(act, tmp_path):
    check_workers_and_kill(LIBERO, act(LIBERO), 4, tmp_path, (1, 1))
    assert [p.name.rpartition("_")[2] for p in (tmp_path / "whole/videos").iterdir()] == ["failure.mp4"]


@pytest.mark.slow
def test_smolvla_has_noise_of_its_own_in_every_episode(smolvla):
    def run(**settings):
        triples = [t for noise in (0, 1) for t in make_triples([METAWORLD], 2, noise_seed=noise)]
        config = EvalConfig(quality="fast", limit=20, device="cpu", batch=3, **settings)
        return without_latency(evaluate([EvalJob(smolvla, None, "smolvla", 0, t) for t in triples], config))

    found = run(workers=1, turns=3)
    assert len({row["actions"] for row in found}) == 4, "neither the initial state nor the noise may be without effect"
    assert run(workers=2, turns=1) == found, "company changes an episode"


def test_noise_reaches_the_actions(smolvla):
    from wmvla.core import Triple
    from wmvla.rollout.agent import Request, Seen
    from wmvla.rollout.lerobot_agent import LeRobotAgent

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
    for file in (whole := act(METAWORLD)).iterdir():
        if not file.name.startswith("policy_postprocessor"):
            os.symlink(whole / file.name, broken / file.name)
    assert lerobot_wm_eval(flags(METAWORLD, broken, 1, tmp_path / "out")) == 2
    assert "without policy_postprocessor.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def lerobot_episodes(folder: Path, task: str, seeds: list[int], limit: int) -> list[tuple[bool, np.ndarray]]:
    """Success and executed actions of a policy folder at these initial states, by LeRobot's own evaluation loop."""
    from lerobot.configs import PreTrainedConfig
    from lerobot.envs import make_env, make_env_pre_post_processors
    from lerobot.envs.configs import MetaworldEnv
    from lerobot.policies.factory import make_policy, make_pre_post_processors
    from lerobot.scripts.lerobot_eval import rollout

    env, config = MetaworldEnv(task=task), PreTrainedConfig.from_pretrained(folder)
    config.pretrained_path, config.n_action_steps = folder, 10
    vector = make_env(env, n_envs=1, use_async_envs=False)[task][0]  # two in one process would draw each other's pictures
    real = vector.call
    vector.call = lambda name, *a, **k: (limit,) if name == "_max_episode_steps" else real(name, *a, **k)
    policy = make_policy(config, env_cfg=env).eval()
    parts = *make_env_pre_post_processors(env, config), *make_pre_post_processors(config, str(folder))
    played = [rollout(vector, policy, *parts, seeds=[seed]) for seed in seeds]
    vector.close()
    return [(bool(p["success"].any()), p["action"][0].numpy()) for p in played]


@pytest.mark.slow
def test_episodes_agree_with_lerobot_eval(act, monkeypatch):
    """The same pictures, the same actions and the same end, once LeRobot's first observation shows the initial state."""
    import mujoco
    from lerobot.envs.metaworld import MetaworldEnv

    from wmvla.rollout.lerobot_agent import LeRobotAgent

    executed, decide, formatted = {}, LeRobotAgent.decide, MetaworldEnv._format_raw_obs

    def noted(self, requests):
        answers = decide(self, requests)
        for request, chunk in zip(requests, answers, strict=True):
            executed.setdefault(request.triple.init_seed, []).append(chunk.actions)
        return answers

    def as_it_is(self, raw):
        mujoco.mj_forward(self._env.model, self._env.data)  # see `sim.metaworld`: The first picture lies
        return formatted(self, self._env._get_curr_obs_combined_no_goal())

    monkeypatch.setattr(LeRobotAgent, "decide", noted)
    monkeypatch.setattr(MetaworldEnv, "_format_raw_obs", as_it_is)
    folder, seeds = act(METAWORLD), [1000, 1001]
    jobs = [EvalJob(folder, None, "act", 0, t) for t in make_triples([METAWORLD], 2, first_seed=1000)]
    ours = evaluate(jobs, EvalConfig(pixels=480, quality="full", limit=30, device="cpu", workers=1))
    assert [r.success for r in ours] == [False, True], "a policy of which every episode ends alike shows nothing"
    for seed, row, (success, actions) in zip(seeds, ours, lerobot_episodes(folder, METAWORLD, seeds, 30), strict=True):
        assert success == row.success and len(actions) == row.steps
        np.testing.assert_allclose(np.concatenate(executed[seed])[: row.steps], actions, atol=1e-5)
        assert np.ptp(actions, axis=0).min() > 0.01
