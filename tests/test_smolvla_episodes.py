"""`smolvla_world` in closed loop: with closed gates it plays the episodes of the smolvla it started from, number for number.

Rows hold a hash of all executed actions, so they are equal only where the episodes were.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.policies.smolvla.modeling_smolvla import VLAFlowMatching
from lerobot.utils.import_utils import register_third_party_plugins
from safetensors.torch import load_file, save_file
from test_closed_loop import features, lerobot_episodes, save

from wmvla.cli.lerobot_eval import lerobot_wm_eval
from wmvla.core import UserError, generator
from wmvla.data.episodes import read_episodes
from wmvla.demos.record import CollectConfig, collect
from wmvla.encoders.catalogue import EncoderConfig, open_encoder
from wmvla.encoders.choice import save_choice
from wmvla.encoders.small import SmallEncoder, SmallEncoderConfig, save_encoder
from wmvla.files import read_json, write_json
from wmvla.latents.write import build_store
from wmvla.rollout.agent import read_card
from wmvla.rollout.closed_loop import evaluate
from wmvla.rollout.jobs import EvalConfig, EvalJob, make_triples
from wmvla.rollout.lerobot_agent import LeRobotAgent
from wmvla.rollout.records import without_latency
from wmvla.smolvla.tiny_vlm import TINY_VLM, make_vlm, smolvla_settings
from wmvla.studies.smolvla_offline import CORRUPTED_SOURCES, corrupt_memory
from wmvla.studies.smolvla_training import GridArm, GridJob

TASK, PIXELS, LIMIT = "drawer-close-v3", 48, 14
SIZES = dict(chunk_size=12, n_action_steps=12, num_steps=2)
WORLD = dict(world_history=4, world_future=3, world_prophet_width=16, world_heads=2)
SILENT = {"arm": "", "memory": "", "gate": None, "gate_share": None, "attention_entropy": None}

register_third_party_plugins()


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A recording and its latents; E0, a random smolvla; E2, a smolvla_world that starts from it; open, E2 with open gates."""
    root = tmp_path_factory.mktemp("episodes")
    collect(root / "dataset", CollectConfig((TASK,), 2, pixels=PIXELS, workers=1))
    torch.manual_seed(0)
    save_encoder(SmallEncoder(SmallEncoderConfig(pixels=32, side=2, width=8)).eval(), root / "encoder")
    write_json(root / "encoder/report.json", {})
    chosen = EncoderConfig(str(root / "encoder"))
    store = build_store(read_episodes(root / "dataset"), open_encoder(chosen), root / "cache")
    save_choice(chosen, open_encoder(chosen), store.root)

    from wmvla.smolvla.configuration_smolvla_world import SmolVLAWorldConfig

    shared = features(PIXELS) | smolvla_settings(TINY_VLM, make_vlm(TINY_VLM, root / "vlm")) | SIZES
    kind = get_policy_class("smolvla")
    torch.manual_seed(0)
    config = kind.config_class(**shared)
    save(kind(config), config, root / "E0")
    config = SmolVLAWorldConfig(**features(PIXELS), **WORLD, world_store=str(store.root), init_from_policy_path=str(root / "E0"))
    policy = get_policy_class("smolvla_world")(config)
    policy.save_pretrained(root / "E2")
    for part in make_pre_post_processors(policy.config):
        part.save_pretrained(root / "E2")
    shutil.copytree(root / "E2", root / "open")
    tensors = load_file(root / "open/model.safetensors")
    gates = {name: torch.full_like(x, 2.0) for name, x in tensors.items() if name.endswith(".gate")}
    shut = {name: x for name, x in tensors.items() if name.endswith("attend.out.weight")}
    assert len(gates) == len(shut) == 1 and not any(x.any() for x in shut.values()), "a new branch is closed"
    gates |= {name: torch.randn(x.shape) / x.shape[1] ** 0.5 for name, x in shut.items()}
    ahead = {name: x for name, x in tensors.items() if name.startswith("world.prophet") and x.is_floating_point()}
    moved = {name: x + 0.3 * torch.randn(x.shape) for name, x in ahead.items()}  # untrained, it repeats the present
    save_file(tensors | gates | moved, root / "open/model.safetensors", metadata={"format": "pt"})
    return root


def play(jobs: list[EvalJob], **settings) -> list[dict]:
    config = EvalConfig(pixels=PIXELS, quality="fast", limit=LIMIT, n_action_steps=10, device="cpu", batch=2, **settings)
    return without_latency(evaluate(jobs, config))


def test_closed_gates_play_the_episodes_of_e0(home):
    """And open ones another, the same for any number of workers, and a random memory is drawn for each episode."""
    first, second = make_triples([TASK], 2)
    triples = [first, replace(first, noise_seed=1), replace(second, noise_seed=2)]
    kinds = {"E0": ("E0", None), "closed": ("E2", None), "off": ("open", "off"), "open": ("open", None),
             "random": ("open", "random")}  # fmt: skip
    jobs = [EvalJob(home / folder, None, name, 0, t, memory) for name, (folder, memory) in kinds.items() for t in triples]
    found = play(jobs, workers=1, turns=3)
    assert play(jobs, workers=4, turns=1) == found, "company changes an episode"
    rows = {name: [row for row in found if row["arm"] == name] for name in kinds}
    plain = {name: [row | SILENT for row in own] for name, own in rows.items()}
    assert plain["closed"] == plain["E0"] == plain["off"]
    assert [rows[name][0]["memory"] for name in kinds] == ["off", "pred", "off", "pred", "random"]
    hashes = [row["actions"] for name in ("E0", "open", "random") for row in rows[name]]
    assert len(set(hashes)) == 3 * len(triples), "a memory, an initial state or a noise is without effect"
    for row in rows["open"]:
        assert abs(row["gate"] - np.tanh(2)) < 1e-5 and row["gate_share"] > 0 and 0 < row["attention_entropy"] <= 1
        assert row["nonfinite"] == 0
    assert all(row["gate"] is None for row in rows["E0"] + rows["off"])


@pytest.mark.slow
def test_the_evaluator_hands_over_the_frames_that_lerobot_would_have_kept(home, monkeypatch):
    """LeRobot's own loop, which shows the policy every picture, acts as our evaluator does, once both start from one noise."""
    import mujoco
    from lerobot.envs.metaworld import MetaworldEnv

    executed, decide, formatted = [], LeRobotAgent.decide, MetaworldEnv._format_raw_obs

    def noted(self, requests):
        answers = decide(self, requests)
        executed.extend(chunk.actions for chunk in answers)
        return answers

    def as_it_is(self, raw):
        mujoco.mj_forward(self._env.model, self._env.data)  # see `sim.metaworld`: The first picture lies
        return formatted(self, self._env._get_curr_obs_combined_no_goal())

    noise = generator("rollout", TASK, 1000, 0)
    monkeypatch.setattr(LeRobotAgent, "decide", noted)
    monkeypatch.setattr(MetaworldEnv, "_format_raw_obs", as_it_is)
    jobs = [EvalJob(home / "open", None, "open", 0, t) for t in make_triples([TASK], 1, first_seed=1000)]
    evaluate(jobs, EvalConfig(pixels=480, quality="full", limit=LIMIT, n_action_steps=10, device="cpu", workers=1))
    monkeypatch.setattr(VLAFlowMatching, "sample_noise", lambda self, shape, device: torch.randn(shape, generator=noise))
    ((_, actions),) = lerobot_episodes(home / "open", TASK, [1000], LIMIT)
    assert len(executed) == 2 and len(actions) == LIMIT
    np.testing.assert_allclose(np.concatenate(executed)[:LIMIT], actions, atol=1e-5)


def test_another_memory_in_the_place_of_its_own_changes_the_error(home, tmp_path):
    """Another source, another episode's frames, and the true future, which the plugin takes by the name given here."""
    job = GridJob(GridArm("E2", "F", "pred", "claimed"), 0, tmp_path / "E2", 1, ())
    shutil.copytree(home / "open", job.policy)
    (encoded,) = (home / "cache").rglob("meta.json")
    sources = ("shuffle", "random", "oracle")
    rows = corrupt_memory(job, read_episodes(home / "dataset"), encoded.parent, (0, 1), sources)
    assert [row.source for row in rows] == list(sources) and set(sources) <= set(CORRUPTED_SOURCES)
    assert len({row.mean_error for row in rows} | {rows[0].reference_error}) == 4


def test_memories_that_a_rollout_cannot_have_are_refused_before_anything_is_played(home):
    triple = make_triples([TASK], 1)[0]
    sentences = {"oracle": "which a rollout lacks", "shuffle": "use `wmvla intervene`", "zeros": "Did you mean 'zero'"}
    for memory, words in sentences.items():
        with pytest.raises(UserError, match=words):
            play([EvalJob(home / "E0", None, "E0", 0, triple), EvalJob(home / "open", None, "open", 0, triple, memory)])
    with pytest.raises(UserError, match="has no memory 'zero'"):
        play([EvalJob(home / "E0", None, "E0", 0, triple, "zero")])


def test_the_source_as_played_is_the_policys_own(home, tmp_path):
    """`read_card` says it without opening the policy."""
    from lerobot.configs import PreTrainedConfig

    shutil.copytree(home / "E2", tmp_path / "policy")
    saved = read_json(home / "E2/config.json")
    for trained, rollout in (("pred", ""), ("oracle", ""), ("zero", ""), ("history", "random"), ("scheduled", "")):
        write_json(tmp_path / "policy/config.json",
                   saved | {"world_memory_mode_train": trained, "world_memory_mode_rollout": rollout})  # fmt: skip
        card = read_card(tmp_path / "policy")
        assert card.arm == f"smolvla_world-{trained}"
        assert card.memory == PreTrainedConfig.from_pretrained(tmp_path / "policy").rollout_source


@pytest.mark.slow
def test_lerobot_wm_eval_compares_and_says_no_word_beside_a_failed_check(home, tmp_path, capsys):
    """Nothing was trained, so the baseline never succeeds; what does not depend on training passes on real folders."""
    flags = [f"--policy.path={home / 'E0'},{home / 'E2'}", f"--env.task={TASK}", "--eval.n_episodes=2", f"--limit={LIMIT}",
             "--quality=fast", "--device=cpu", f"--dataset={home / 'dataset'}", f"--out={tmp_path / 'eval'}"]  # fmt: skip
    assert lerobot_wm_eval(flags) == 0
    said = capsys.readouterr().out.splitlines()
    results = {g["name"]: g for g in read_json(tmp_path / "eval/preflight.json")["checks"]}
    sound = ("initial states", "replay", "cameras", "latent shards", "cached latents", "processors", "executed steps",
             "episodes apart", "repeatable actions", "finite rollouts")  # fmt: skip
    assert all(results[name]["passed"] for name in sound), [results[name]["saw"] for name in sound if not results[name]["passed"]]
    assert not results["baseline success"]["passed"]
    at = next(i for i, line in enumerate(said) if line.startswith("smolvla_world-pred - smolvla: +0 points"))
    assert said[at + 1].startswith("no verdict: check '")
    assert said[at + 2] == "2 pairs: 0 won by smolvla_world-pred alone, 0 by smolvla alone, 2 alike"
    assert lerobot_wm_eval([*flags[1:], f"--policy.path={home / 'E2'}", "--memory_mode=zero"]) == 0
    line, last = capsys.readouterr().out.splitlines()[-2:]
    assert line.startswith("closed loop, smolvla_world-pred - smolvla_world-pred with zero: 0 of 2 - 0 of 2 succeed: +0 points")
    assert line.endswith("no verdict") and last == str(tmp_path / "eval")
