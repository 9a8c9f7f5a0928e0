"""What LeRobot asks of every policy, asked of `smolvla` and of `smolvla_world` alike; then LeRobot's own commands with the type.

The list of questions is LeRobot's own (tests/policies, smolvla and rtc below it, in huggingface/lerobot); nothing is downloaded.
"""

import copy
import inspect
import logging
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.configs.default import DatasetConfig
from lerobot.configs.train import TrainPipelineConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.optim.factory import make_optimizer_and_scheduler
from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.policies.rtc.configuration_rtc import RTCConfig
from lerobot.utils.import_utils import register_third_party_plugins
from safetensors.torch import load_file

from wmvla.core import UserError
from wmvla.data.episodes import read_episodes
from wmvla.data.splits import make_split, save_split
from wmvla.demos.record import quiet  # its imports choose how MuJoCo draws
from wmvla.encoders.catalogue import EncoderConfig, open_encoder
from wmvla.encoders.choice import save_choice
from wmvla.encoders.small import SmallEncoder, SmallEncoderConfig, save_encoder
from wmvla.files import read_json, write_json
from wmvla.latents.store import open_store
from wmvla.latents.write import build_store
from wmvla.smolvla.tiny_vlm import TINY_VLM, make_vlm, smolvla_settings
from wmvla.train.config import TrainConfig
from wmvla.train.film import FilmJob, Reel, train_prophet
from wmvla.world.given import open_given, save_given
from wmvla.world.prophet import ProphetConfig

KINDS = ("smolvla", "smolvla_world")
CAMERA, STATE, ACTION = "observation.image", "observation.state", "action"
SMALL = SmallEncoderConfig(pixels=32, side=2, width=8)
LATENT, HISTORY, FUTURE = 32, 2, 3
CHUNK, EXECUTE = 6, 4
LOGS = {"world_gate", "world_gate_share", "world_loss", "world_cos", "world_valid_frac", "world_mem_norm", "world_z_hist_norm",
        "world_z_future_norm", "world_nonfinite", "loss_total"}  # fmt: skip
ATTENTION_LOGS = {"world_attn_entropy", "world_attn_pmax", "world_ctx_norm", "world_act_norm"}
GRADIENT_LOGS = {"grad_world_inject", "grad_prophet"}
each_kind = pytest.mark.parametrize("kind", KINDS)

register_third_party_plugins()


def record(root: Path) -> Path:
    """A LeRobotDataset of two short episodes in random colours."""
    vector = {"dtype": "float32", "shape": (4,), "names": {"axes": list("xyzg")}}
    picture = {"dtype": "image", "shape": (64, 64, 3), "names": ["height", "width", "channels"]}
    rng = np.random.default_rng(0)
    with quiet():
        dataset = LeRobotDataset.create("local/colours", 10, {CAMERA: picture, STATE: vector, ACTION: vector}, root=root)
        for _ in range(2):
            for _ in range(8):
                seen = rng.integers(0, 255, (64, 64, 3), np.uint8)
                numbers = rng.normal(size=(2, 4)).astype(np.float32)
                dataset.add_frame({CAMERA: seen, STATE: numbers[0], ACTION: numbers[1], "task": "close the drawer"})
            dataset.save_episode()
        dataset.finalize()
    return root


def encode(dataset: Path, home: Path) -> Path:
    """The latent store of a dataset, as `wmvla encode` leaves it."""
    torch.manual_seed(0)
    save_encoder(SmallEncoder(SMALL).eval(), home / "encoder")
    config = EncoderConfig(str(home / "encoder"))
    encoder = open_encoder(config)
    store = build_store(read_episodes(dataset), encoder, home / "cache")
    save_choice(config, encoder, store.root)
    return store.root


@dataclass(frozen=True)
class Home:
    """What every policy of this file is made of."""

    vlm: Path  # a tiny SmolVLM, without weights
    dataset: Path
    store: Path  # its latents


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Home:
    root = tmp_path_factory.mktemp("home")
    dataset = record(root / "dataset")
    return Home(make_vlm(TINY_VLM, root / "vlm", ["close the drawer"]), dataset, encode(dataset, root))


def features(**more) -> dict:
    """What a policy reads and writes: one camera, a state of 4, an action of 4."""
    pictures = {CAMERA: PolicyFeature(FeatureType.VISUAL, (3, 64, 64)), **more}
    inputs = {STATE: PolicyFeature(FeatureType.STATE, (4,)), **pictures}
    return {"input_features": inputs, "output_features": {ACTION: PolicyFeature(FeatureType.ACTION, (4,))}}


def make_config(kind: str, home: Home, **more):
    """A tiny configuration of either kind, made by LeRobot's factory."""
    sizes = {"chunk_size": CHUNK, "n_action_steps": EXECUTE, "num_steps": 2, "device": "cpu", "push_to_hub": False}
    if kind == "smolvla_world":
        sizes |= {"world_store": str(home.store), "world_history": HISTORY, "world_future": FUTURE, "world_prophet_width": 16,
                  "world_heads": 2}  # fmt: skip
    return make_policy_config(kind, **{**smolvla_settings(TINY_VLM, home.vlm), **sizes, **features(), **more})


def make(kind: str, home: Home, seed: int = 0, **more) -> PreTrainedPolicy:
    """A policy with weights drawn from `seed`."""
    torch.manual_seed(seed)
    with quiet():
        return get_policy_class(kind)(make_config(kind, home, **more))


def statistics() -> dict:
    """Of a dataset whose state and action are far from normal."""
    return {STATE: {"mean": torch.full((4,), 3.0), "std": torch.full((4,), 2.0)},
            ACTION: {"mean": torch.full((4,), -1.0), "std": torch.full((4,), 0.5)},
            CAMERA: {"mean": torch.zeros(3, 1, 1), "std": torch.ones(3, 1, 1)}}  # fmt: skip


def observation(samples: int = 3, seed: int = 0) -> dict:
    """A batch as a policy gets it in a rollout."""
    from_seed = torch.Generator().manual_seed(seed)
    tokens = torch.randint(20, 60, (samples, 5), generator=from_seed)
    words = {"observation.language.tokens": tokens, "observation.language.attention_mask": torch.ones_like(tokens).bool()}
    picture = torch.rand(samples, 3, 64, 64, generator=from_seed)
    return {STATE: torch.randn(samples, 4, generator=from_seed), CAMERA: picture, "task": ["close the drawer"] * samples, **words}


def training_batch(kind: str, config, samples: int = 3) -> dict:
    """A batch as a policy gets it in training, the last action of the last sample beyond its episode."""
    batch = observation(samples) | {ACTION: torch.randn(samples, CHUNK, 4), "action_is_pad": torch.zeros(samples, CHUNK).bool()}
    batch["action_is_pad"][-1, -1] = True
    if kind == "smolvla": return batch
    from wmvla.smolvla.configuration_smolvla_world import MARK, store_mark

    own = {"world_history": torch.randn(samples, HISTORY, LATENT), "world_history_mask": torch.ones(samples, HISTORY).bool(),
           "world_future": torch.randn(samples, FUTURE, LATENT), "world_future_mask": torch.ones(samples, FUTURE).bool(),
           "world_episode": torch.arange(samples), MARK: store_mark(config.world_fingerprint, config.world_revision)}  # fmt: skip
    own["world_future_mask"][-1, -1] = False
    return batch | own


def same(a: dict, b: dict) -> bool:
    """Do two batches hold the same keys and values?"""
    equal = lambda x, y: torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y
    return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)


def open_gates(policy: PreTrainedPolicy, value: float = 1.0) -> int:
    """Set every gate, and let something through every output projection; how many gates there are."""
    gates = [p for name, p in policy.named_parameters() if name.split(".")[-1] == "gate"]
    closed = [p for name, p in policy.named_parameters() if name.endswith("attend.out.weight") and not p.any()]
    with torch.no_grad():
        for gate in gates: gate.fill_(value)
        for out in closed: out.copy_(torch.randn(out.shape, generator=torch.Generator().manual_seed(1)) / out.shape[1] ** 0.5)
    return len(gates)


# Names and classes


@each_kind
def test_classes_are_found_by_name(kind):
    policy, config = get_policy_class(kind), make_policy_config(kind)
    assert policy.name == config.type == kind and policy.config_class is type(config)
    assert issubclass(policy, PreTrainedPolicy)
    assert any(p.kind is inspect.Parameter.VAR_KEYWORD for p in inspect.signature(policy.__init__).parameters.values())


@each_kind
def test_defaults_make_a_policy(kind, home):
    """Only what would be fetched, and the device, is not the default; without a latent store there is no memory to act on."""
    off = {"world_memory_mode_rollout": "off"} if kind == "smolvla_world" else {}
    own = {"vlm_model_name": str(home.vlm), "num_vlm_layers": TINY_VLM.layers, "device": "cpu"}
    config = make_policy_config(kind, **own, **off, **features())
    assert (config.chunk_size, config.max_action_dim, config.train_expert_only) == (50, 32, True)
    with quiet(): policy = get_policy_class(kind)(config)
    assert policy.predict_action_chunk(observation(1)).shape == (1, 50, 4)


# Training


@each_kind
def test_forward_leaves_its_batch_alone(kind, home):
    policy = make(kind, home).train()
    batch = training_batch(kind, policy.config)
    before = copy.deepcopy(batch)
    loss, logs = policy.forward(batch)
    assert same(batch, before)
    assert loss.ndim == 0 and loss.isfinite() and loss.requires_grad
    assert {"loss", "losses_after_forward"} <= logs.keys() and all(isinstance(x, float | int) for x in logs.values())


@each_kind
def test_losses_of_samples_average_to_the_loss(kind, home):
    policy = make(kind, home).train()
    batch = training_batch(kind, policy.config) | {"action_is_pad": torch.zeros(3, CHUNK).bool()}
    if kind == "smolvla_world": batch["world_future_mask"] = torch.ones(3, FUTURE).bool()
    noise, time = torch.randn(3, CHUNK, policy.config.max_action_dim), torch.rand(3)
    each, _ = policy.forward(batch, noise=noise, time=time, reduction="none")
    whole, _ = policy.forward(batch, noise=noise, time=time)
    assert each.shape == (3,)
    torch.testing.assert_close(each.mean(), whole)


@each_kind
def test_the_optimiser_moves_what_is_to_train_and_nothing_else(kind, home):
    policy = make(kind, home, train_expert_only=True, freeze_vision_encoder=True).train()
    cfg = TrainPipelineConfig(dataset=DatasetConfig(repo_id="local/none"), policy=policy.config)
    cfg.validate()
    optimizer, scheduler = make_optimizer_and_scheduler(cfg, policy)
    assert optimizer.param_groups[0]["betas"] == policy.config.optimizer_betas and scheduler is not None
    for group in optimizer.param_groups: group["lr"] = 1e-2  # the scheduler begins near 0
    before = {name: p.detach().clone() for name, p in policy.named_parameters()}
    policy.forward(training_batch(kind, policy.config))[0].backward()
    optimizer.step()
    moved = {name for name, p in policy.named_parameters() if not torch.equal(p, before[name])}
    asked = {name for name, p in policy.named_parameters() if p.requires_grad}
    assert moved <= asked
    assert any("lm_expert" in name for name in moved) and "model.action_out_proj.weight" in moved
    assert not any("vision_model" in name for name in moved)
    if kind == "smolvla_world":
        assert any(name.endswith(("gate", "attend.out.weight")) for name in moved), "what is closed must be able to open"


def test_every_log_has_its_name(home):
    policy = make("smolvla_world", home, log_attn_stats=True, log_grad_stats=True).train()
    open_gates(policy)
    batch = training_batch("smolvla_world", policy.config)
    for _ in range(2):  # gradient norms are those of the previous step
        loss, logs = policy.forward(batch)
        loss.backward()
    assert LOGS | ATTENTION_LOGS | GRADIENT_LOGS <= logs.keys()
    assert all(isinstance(logs[name], float) and np.isfinite(logs[name]) for name in LOGS | ATTENTION_LOGS | GRADIENT_LOGS)
    assert logs["world_gate"] == pytest.approx(np.tanh(1.0)) and logs["world_nonfinite"] == 0
    assert logs["world_valid_frac"] == pytest.approx(8 / 9), "one of nine steps of the future lies beyond its episode"
    assert logs["grad_prophet"] > 0 and logs["loss_total"] == pytest.approx(loss.item(), rel=1e-5)
    plain = make("smolvla_world", home).train().forward(batch)[1]
    assert LOGS <= plain.keys() and not (ATTENTION_LOGS | GRADIENT_LOGS) & plain.keys()


# Acting


@each_kind
def test_select_action_leaves_its_observation_alone(kind, home):
    policy = make(kind, home).eval()
    seen = observation()
    before = copy.deepcopy(seen)
    with torch.inference_mode(): action = policy.select_action(seen)
    assert action.shape == (3, 4) and same(seen, before)


@each_kind
def test_a_chunk_is_executed_before_the_next_is_decided(kind, home):
    policy = make(kind, home).eval()
    decided, decide = [], policy.model.sample_actions
    policy.model.sample_actions = lambda *args, **kwargs: decided.append(1) or decide(*args, **kwargs)
    for turn in range(EXECUTE + 1): policy.select_action(observation(seed=turn))
    assert len(decided) == 2
    policy.reset()
    policy.select_action(observation())
    assert len(decided) == 3, "reset() forgets the rest of a chunk"


@each_kind
def test_given_noise_decides(kind, home):
    policy = make(kind, home).eval()
    noise = torch.randn(3, CHUNK, policy.config.max_action_dim)
    chunks = []
    for _ in range(2):
        policy.reset()
        chunks.append(policy.predict_action_chunk(observation(), noise=noise))
    assert chunks[0].shape == (3, CHUNK, 4) and torch.equal(*chunks)
    assert not torch.equal(chunks[0], policy.predict_action_chunk(observation(), noise=-noise))


def test_arms_with_and_without_a_store_meet_the_same_luck(home):
    """Weights of the base, and every number that training draws afterwards."""
    (base, first), (world, second) = ((make(kind, home), torch.randn(5)) for kind in KINDS)
    assert torch.equal(first, second)
    tensors = world.state_dict()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in base.state_dict().items())


def test_a_closed_gate_is_smolvla_bit_for_bit(home):
    base, world = (make(kind, home, seed) for kind, seed in (("smolvla", 0), ("smolvla_world", 1)))
    missing, unexpected = world.load_state_dict(base.state_dict(), strict=False)
    assert not unexpected and missing and not any(name in base.state_dict() for name in missing)
    noise = torch.randn(3, CHUNK, base.config.max_action_dim)
    chunks = [p.eval().predict_action_chunk(observation(), noise=noise) for p in (base, world)]
    assert torch.equal(*chunks)
    assert open_gates(world) > 0
    assert not torch.equal(chunks[0], world.predict_action_chunk(observation(), noise=noise))


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["late", "input", "every"])
def test_compiled_it_is_smolvla_while_closed_and_itself_when_open(fusion, home, monkeypatch):
    """Traced as `compile_model` traces; the backend runs the traced graphs as they are, generated code would take minutes."""
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, mode=None: compiler(function, backend="aot_eager"))
    flags = {"compile_model": True, "compile_mode": "default"}
    own = {"world_fusion": fusion, "lambda_world": 0.0}
    noise, time = torch.randn(3, CHUNK, 16), torch.rand(3)

    def answers(kind, opened=False, **more):
        policy = make(kind, home, **more)
        if opened: assert open_gates(policy) > 0
        batch = training_batch(kind, policy.config) | observation(3)
        torch.manual_seed(1)
        batch[ACTION] = torch.randn(3, CHUNK, 4)
        for key in ("world_history", "world_future"):
            if key in batch: batch[key] = torch.randn(3, HISTORY if key == "world_history" else FUTURE, LATENT)
        loss = policy.train().forward(batch, noise=noise, time=time)[0]
        loss.backward()
        return loss, policy.model.action_out_proj.weight.grad, policy.predict_action_chunk(observation(3), noise=noise)

    plain = answers("smolvla", **flags)
    closed, opened = (answers("smolvla_world", way, **own, **flags) for way in (False, True))
    eager = answers("smolvla_world", True, **own)
    for ours, theirs in zip(closed, plain, strict=True): assert torch.equal(ours, theirs)
    for ours, theirs in zip(opened, eager, strict=True): torch.testing.assert_close(ours, theirs)
    assert not torch.equal(opened[2], plain[2])


@each_kind
def test_a_camera_that_is_not_there_may_be_declared_empty(kind, home):
    policy = make(kind, home, empty_cameras=1).eval()
    assert policy.predict_action_chunk(observation()).isfinite().all()
    with pytest.raises(ValueError, match="image features are missing"):
        policy.forward({k: v for k, v in training_batch(kind, policy.config).items() if k != CAMERA})


# Files


@each_kind
def test_saved_and_loaded_is_the_same_policy(kind, home, tmp_path):
    policy = make(kind, home).eval()
    open_gates(policy, 0.5)
    policy.save_pretrained(tmp_path)
    with quiet(): loaded = get_policy_class(kind).from_pretrained(tmp_path).eval()
    own, read = dict(policy.named_parameters()), dict(loaded.named_parameters())
    assert own.keys() == read.keys() and all(torch.equal(own[name], read[name]) for name in own)
    assert read_json(tmp_path / "config.json")["type"] == kind and loaded.config.chunk_size == CHUNK
    noise = torch.randn(3, CHUNK, policy.config.max_action_dim)
    assert torch.equal(*(p.predict_action_chunk(observation(), noise=noise) for p in (policy, loaded)))


def raw_sample() -> dict:
    """One frame as a dataset or an environment gives it."""
    return {STATE: torch.tensor([5.0, 3.0, 1.0, 3.0]), CAMERA: torch.rand(3, 64, 64), "task": "close the drawer"}


@each_kind
def test_processors_normalise_tokenise_and_go_back(kind, home):
    before, after = make_pre_post_processors(make_config(kind, home), dataset_stats=statistics())
    batch = before(raw_sample())
    torch.testing.assert_close(batch[STATE], torch.tensor([[1.0, 0.0, -1.0, 0.0]]))
    assert batch["observation.language.tokens"].ndim == 2 and batch[CAMERA].shape == (1, 3, 64, 64)
    torch.testing.assert_close(after(torch.tensor([[2.0, 0.0, -2.0, 1.0]])), torch.tensor([[0.0, -1.0, -2.0, -0.5]]))
    names = {getattr(step, "_registry_name", None) for step in before.steps}
    assert {"rename_observations_processor", "device_processor", "normalizer_processor"} <= names, "lerobot-train overrides these"


@each_kind
def test_saved_processors_are_the_same_processors(kind, home, tmp_path):
    config = make_config(kind, home)
    for processor in make_pre_post_processors(config, dataset_stats=statistics()): processor.save_pretrained(tmp_path)
    sample, action = raw_sample(), torch.randn(1, 4)
    first, second = make_pre_post_processors(config, dataset_stats=statistics()), make_pre_post_processors(config, str(tmp_path))
    assert same(*({k: v for k, v in pair[0](dict(sample)).items() if v is not None} for pair in (first, second)))
    assert torch.equal(*(pair[1](action.clone()) for pair in (first, second)))


# Real-time chunking


@each_kind
def test_real_time_chunking_is_off_unless_asked_for(kind, home):
    plain = make(kind, home)
    assert plain.supports_rtc() and plain.rtc_processor is None and plain.model.rtc_processor is None
    guided = make(kind, home, rtc_config=RTCConfig(execution_horizon=4))
    assert guided.model.rtc_processor is guided.rtc_processor is not None
    with pytest.raises(AssertionError, match="RTC"): guided.select_action(observation())


@each_kind
def test_real_time_chunking_holds_on_to_what_is_left(kind, home):
    policy = make(kind, home, rtc_config=RTCConfig(execution_horizon=4)).eval()
    open_gates(policy)
    noise = torch.randn(1, CHUNK, policy.config.max_action_dim)
    decide = lambda **kwargs: policy.predict_action_chunk(observation(1), noise=noise.clone(), **kwargs)
    free = decide()
    torch.testing.assert_close(decide(prev_chunk_left_over=None), free)
    left = torch.full((1, CHUNK, 4), 5.0)
    held = decide(prev_chunk_left_over=left, inference_delay=2, execution_horizon=4)
    assert held.shape == free.shape
    assert (held - left)[:, :2].abs().mean() < (free - left)[:, :2].abs().mean(), "the first actions follow the old chunk"


# A Prophet that was trained before, and what a memory step holds


@pytest.fixture(scope="module")
def prophet(home, tmp_path_factory) -> Path:
    """A Prophet of other sizes than the flags', which saw both episodes."""
    sizes = ProphetConfig(LATENT, HISTORY, FUTURE + 1, 24, 2, 3)
    film = (Reel(open_store(home.store), (0, 1)),)
    given = train_prophet(FilmJob(film, sizes, TrainConfig(steps=3, batch=4)))
    return save_given(given, tmp_path_factory.mktemp("given") / "prophet")


def test_a_given_prophet_brings_sizes_weights_and_statistics(home, prophet, tmp_path):
    policy, given = make("smolvla_world", home, world_prophet=str(prophet)), open_given(prophet)
    c = policy.config
    assert (c.world_future, c.world_prophet_width, c.world_prophet_layers, c.world_prophet_heads) == (FUTURE + 1, 24, 2, 3)
    assert same(policy.world.prophet.state_dict(), given.prophet.state_dict())
    assert same(policy.world.latents.state_dict(), given.latents.state_dict()) and policy.world.fitted
    policy.save_pretrained(tmp_path / "saved")
    saved = read_json(tmp_path / "saved/config.json")
    film, sizes = (Reel(open_store(home.store), (0,)),), ProphetConfig(LATENT, HISTORY, FUTURE, 8, 1, 2)
    other = save_given(train_prophet(FilmJob(film, sizes, TrainConfig(steps=1, batch=2))), tmp_path / "other")  # fitted anew
    write_json(tmp_path / "saved/config.json", saved | {"world_prophet": str(other)})
    again = get_policy_class("smolvla_world").from_pretrained(tmp_path / "saved")
    assert same(again.state_dict(), policy.state_dict())


@pytest.mark.parametrize("freeze", [False, True])
def test_a_frozen_prophet_stays_and_the_rest_learns(home, prophet, freeze):
    policy = make("smolvla_world", home, world_prophet=str(prophet), world_prophet_freeze=freeze)
    before = copy.deepcopy(policy.state_dict())
    batch = training_batch("smolvla_world", policy.config)
    batch["world_future"] = torch.randn(3, FUTURE + 1, LATENT)
    batch["world_future_mask"] = torch.ones(3, FUTURE + 1).bool()
    optimiser = torch.optim.AdamW(policy.get_optim_params(), lr=1e-2)
    policy.train().forward(batch)[0].backward()
    optimiser.step()
    moved = {name for name, x in policy.state_dict().items() if not torch.equal(x, before[name])}
    assert any(name.startswith("world.prophet.") for name in moved) is not freeze
    assert any(name.startswith("world.fusions.") for name in moved)


def test_a_prophet_that_saw_the_validation_part_is_refused(home, prophet, tmp_path):
    save_split(make_split(read_episodes(home.dataset), 0.5), split := tmp_path / "split.json")
    with pytest.raises(UserError, match="seen episode .* of the validation part"):
        make("smolvla_world", home, world_prophet=str(prophet), world_split=str(split))
    with pytest.raises(UserError, match="There is no Prophet at"):
        make("smolvla_world", home, world_prophet=str(tmp_path))


@pytest.mark.parametrize(("content", "width"), [("change", LATENT), ("components", 5)])
def test_contents_are_fitted_on_the_store(home, content, width):
    policy = make("smolvla_world", home, world_memory_content=content, world_components=5)
    scale = policy.world.content.scale
    assert policy.world.content.width == width and (scale > 0).all() and not (scale == 1).any()
    open_gates(policy)
    chunk = policy.eval().predict_action_chunk(observation())
    assert chunk.shape == (3, CHUNK, 4) and chunk.isfinite().all() and policy.last_memory.values.shape == (3, FUTURE, width)


# LeRobot's own commands


@dataclass(frozen=True)
class Trained:
    """What LeRobot's trainer left behind."""

    out: Path
    said: str  # its log

    @property
    def checkpoint(self) -> Path:
        return self.out / "checkpoints/last/pretrained_model"


def flags_of(settings: dict, prefix: str) -> list[str]:
    """Settings as a command line spells them."""
    spelled = {tuple: lambda value: str(list(value)), bool: lambda value: str(value).lower()}
    return [f"--{prefix}{name}={spelled.get(type(value), str)(value)}" for name, value in settings.items()]


@pytest.fixture(scope="module")
def trained(home, tmp_path_factory) -> Trained:
    """Two steps of `lerobot-train --policy.type=smolvla_world`, the installed command in a process of its own."""
    out = tmp_path_factory.mktemp("trained") / "out"
    policy = smolvla_settings(TINY_VLM, home.vlm) | {
        "type": "smolvla_world", "chunk_size": CHUNK, "n_action_steps": EXECUTE, "num_steps": 2, "device": "cpu",
        "push_to_hub": False, "world_store": home.store, "world_history": HISTORY, "world_future": FUTURE,
        "world_prophet_width": 16, "log_attn_stats": True}  # fmt: skip
    run = {"dataset.repo_id": "local/colours", "dataset.root": home.dataset, "output_dir": out, "steps": 2, "save_freq": 2,
           "batch_size": 4, "num_workers": 0, "log_freq": 1, "wandb.enable": False}  # fmt: skip
    command = [Path(sys.executable).parent / "lerobot-train", *flags_of(run, ""), *flags_of(policy, "policy.")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return Trained(out, done.stdout + done.stderr)


@pytest.fixture
def lerobot(monkeypatch, caplog):
    """Calls the main function of a LeRobot command in this process, whose imports are paid for; gives what it logged."""

    def call(main, *args: str) -> str:
        monkeypatch.setattr(sys, "argv", ["lerobot", *map(str, args)])
        handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
        with caplog.at_level(logging.INFO): main()
        logging.getLogger().handlers[:] = handlers  # LeRobot puts its own in their place
        logging.getLogger().setLevel(level)
        return caplog.text

    return call


def test_lerobot_train_trains_and_logs_every_name(trained):
    assert trained.checkpoint.is_dir()
    config = read_json(trained.checkpoint / "config.json")
    assert (config["type"], config["world_latent"], config["world_camera"]) == ("smolvla_world", LATENT, CAMERA)
    assert config["world_fingerprint"] and config["init_from_policy_path"] is None
    line = next(line for line in trained.said.splitlines() if " grdn:" in line)
    assert {name for name in LOGS | ATTENTION_LOGS if f"{name}:" not in line} == set()


def test_a_killed_training_continues(trained, lerobot):
    from lerobot.scripts.lerobot_train import main

    first = load_file(trained.checkpoint / "model.safetensors")
    lerobot(main, f"--config_path={trained.checkpoint / 'train_config.json'}", "--resume=true", "--steps=3")
    assert trained.checkpoint.resolve().parent.name == "000003"
    last = load_file(trained.checkpoint / "model.safetensors")
    assert first.keys() == last.keys() and any(not torch.equal(first[name], last[name]) for name in first)
    assert read_json(trained.out / "checkpoints/last/training_state/training_step.json")["step"] == 3


def test_weights_of_another_robot_take_this_datasets_units(home, lerobot, tmp_path):
    """The runbooks' base: `--policy.pretrained_path` with a type gives weights alone, not cameras, sizes or statistics."""
    from lerobot.scripts.lerobot_train import main

    other = {"input_features": {STATE: PolicyFeature(FeatureType.STATE, (6,)),
                                "observation.images.camera1": PolicyFeature(FeatureType.VISUAL, (3, 32, 32))},
             "output_features": {ACTION: PolicyFeature(FeatureType.ACTION, (6,))}}  # fmt: skip
    policy = make("smolvla", home, **other)
    numbers = {"mean": torch.full((6,), 100.0), "std": torch.full((6,), 9.0)}
    processors = make_pre_post_processors(policy.config, dataset_stats={STATE: numbers, ACTION: numbers})
    for part in (policy, *processors): part.save_pretrained(tmp_path / "other")
    own = smolvla_settings(TINY_VLM, home.vlm) | {
        "type": "smolvla", "pretrained_path": tmp_path / "other", "chunk_size": CHUNK, "n_action_steps": EXECUTE, "device": "cpu",
        "push_to_hub": False, "optimizer_lr": 1e-30}  # fmt: skip
    run = {"dataset.repo_id": "local/colours", "dataset.root": home.dataset, "output_dir": tmp_path / "base", "steps": 1,
           "batch_size": 2, "num_workers": 0, "wandb.enable": False}  # fmt: skip
    lerobot(main, *flags_of(run, ""), *flags_of(own, "policy."))
    made = tmp_path / "base/checkpoints/last/pretrained_model"
    first, last = (load_file(folder / "model.safetensors") for folder in (tmp_path / "other", made))
    assert first.keys() == last.keys() and all(torch.equal(first[name], last[name]) for name in first)
    config = read_json(made / "config.json")
    assert config["input_features"].keys() == {STATE, CAMERA} and config["input_features"][STATE]["shape"] == [4]
    with quiet(): before, _ = make_pre_post_processors(get_policy_class("smolvla").from_pretrained(made).config, str(made))
    assert before(raw_sample())[STATE].abs().max() < 20, "the other robot's mean of 100 is gone"


def test_lerobot_eval_plays_the_checkpoint(trained, lerobot, tmp_path, monkeypatch):
    from lerobot.envs.metaworld import MetaworldEnv
    from lerobot.scripts.lerobot_eval import main

    build = MetaworldEnv.__init__

    def short(self, *args, **kwargs):
        build(self, *args, **kwargs)
        self._max_episode_steps = EXECUTE + 2  # two chunks; an episode of 500 steps at 480 pixels would take minutes

    monkeypatch.setattr(MetaworldEnv, "__init__", short)
    flags = {"policy.path": trained.checkpoint, "policy.device": "cpu", "env.type": "metaworld", "env.task": "drawer-close-v3",
             "eval.n_episodes": 1, "eval.batch_size": 1, "output_dir": tmp_path / "eval"}  # fmt: skip
    lerobot(main, *flags_of(flags, ""))
    assert len(read_json(tmp_path / "eval/eval_info.json")["per_task"][0]["metrics"]["successes"]) == 1


def test_lerobot_eval_offers_the_type(lerobot, capsys):
    from lerobot.scripts.lerobot_eval import main

    with pytest.raises(SystemExit): lerobot(main, "--policy.type=smolvla_world", "--help")
    assert "--policy.world_memory_mode_rollout" in capsys.readouterr().out, "the configuration's fields are not its flags"


@pytest.mark.slow
def test_lerobot_rollout_offers_the_type():
    """A robot is driven by this command; `lerobot-record` takes no policy any more."""
    asked = [Path(sys.executable).parent / "lerobot-rollout", "--policy.type=smolvla_world", "--help"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "--policy.world_memory_mode_rollout" in done.stdout
