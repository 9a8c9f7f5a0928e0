"""What users of such benchmarks suffered from, planted one by one: the check that is meant for it fails, and no other."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from wmvla.checks import sim_visit
from wmvla.checks.base import choose_checks, run_checks
from wmvla.checks.batch_invariance import agent_checks
from wmvla.checks.dataset import LOOKS, subject_checks
from wmvla.checks.dataset_vs_sim import measured_statistics
from wmvla.checks.preflight import encoder_checks, policy_checks
from wmvla.checks.sim_visit import Subject
from wmvla.cli.main import main
from wmvla.data.normalise import Normaliser
from wmvla.demos import replay
from wmvla.demos.record import collect
from wmvla.demos.schema import CollectConfig
from wmvla.files import read_json, write_json
from wmvla.latents.write import build_store
from wmvla.policy.trunk import PolicyConfig
from wmvla.policy.world_policy import WorldPolicy
from wmvla.rollout.agent import Chunk, DecisionRow, Look
from wmvla.rollout.world_agent import WorldAgent
from wmvla.sim.metaworld import MetaworldEnvironment

TASKS = ("drawer-open-v3", "pick-place-v3")
PICTURES = {"image orientation", "first frame"}


def failed(checks) -> set[str]:
    return {r.name for r in run_checks(checks) if not r.passed}


def found_in(dataset, policy=None, **rollout) -> set[str]:
    """The checks of a dataset that do not pass."""
    return failed(subject_checks(Subject(dataset, **rollout), policy=policy))


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Two tasks, one of which needs a grasp: every check passes."""
    root = collect(tmp_path_factory.mktemp("sound") / "d", CollectConfig(TASKS, episodes_per_task=1, pixels=32, workers=1))
    assert found_in(root) == set()
    return root


@pytest.fixture
def copy(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "d")


def provenance(folder, **change):
    path = folder / "meta" / "wmvla.json"
    write_json(path, read_json(path) | change)


def rewrite(folder, column, change):
    """Put `change(values)` in the place of a column of numbers, as if it was recorded so: the statistics follow."""
    written = []
    for path in folder.glob("data/*/*.parquet"):
        table = pq.read_table(path)
        at, field = table.column_names.index(column), table.schema.field(column)
        values = change(np.stack(table[column].to_numpy()), np.stack(table["observation.state"].to_numpy())).astype(np.float32)
        pq.write_table(table.set_column(at, field, pa.array(values.tolist(), field.type)), path)
        written.append(values)
    stats = folder / "meta/stats.json"
    exact = {name: numbers.tolist() for name, numbers in measured_statistics(np.concatenate(written)).items()}
    write_json(stats, read_json(stats) | {column: exact})


def write_texts(folder, texts):
    path = folder / "meta" / "tasks.parquet"
    table = pq.read_table(path)
    name = next(n for n in table.column_names if n != "task_index")
    pq.write_table(table.set_column(table.column_names.index(name), table.schema.field(name), pa.array(texts)), path)


# 1. Another MuJoCo, other render settings


def test_another_mujoco_is_seen_by_the_rendering_check_alone(copy):
    provenance(copy, mujoco="3.8.1")
    assert found_in(copy) == {"rendering"}


def test_other_render_settings_are_seen_by_their_name_and_in_the_pictures(sound):
    assert found_in(sound, quality="full") == {"rendering", "first frame"}
    assert found_in(sound, pixels=64) == {"rendering", "first frame"}


@pytest.mark.slow
def test_where_a_dataset_says_nothing_its_pictures_tell_how_it_was_drawn(copy):
    (copy / "meta" / "wmvla.json").unlink()
    assert found_in(copy, quality="fast") == set()
    assert found_in(copy, quality="full") == {"rendering", "first frame"}


# 2. to 3. Blind execution; processors rebuilt, skipped, or without the way back


@pytest.fixture(scope="module")
def policies(sound, tmp_path_factory):
    """Makes folders with the configuration and the processors of an ACT policy, as LeRobot writes them."""
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.factory import make_pre_post_processors

    table, home = Subject(sound).table, tmp_path_factory.mktemp("policies")

    def make(name, shift=0.0, camera="observation.image", **config):
        feature = lambda kind, *shape: PolicyFeature(kind, shape)
        seen = {"observation.state": feature(FeatureType.STATE, 4), camera: feature(FeatureType.VISUAL, 3, 32, 32)}
        settings = {"chunk_size": 50, "n_action_steps": 10, "device": "cpu", "push_to_hub": False} | config
        out = {"action": feature(FeatureType.ACTION, 4)}
        act = ACTConfig(input_features=seen, output_features=out, pretrained_backbone_weights=None, **settings)
        vectors = {"observation.state": table.state, "action": table.action}
        stats = {k: {"mean": torch.from_numpy(x.mean(0)) + shift, "std": torch.from_numpy(x.std(0))} for k, x in vectors.items()}
        stats[camera] = {"mean": torch.full((3, 1, 1), 0.5), "std": torch.full((3, 1, 1), 0.5)}
        for part in (act, *make_pre_post_processors(act, dataset_stats=stats)):
            part.save_pretrained(home / name)
        return home / name

    baseline = make("baseline")
    checks = lambda folder, **how: failed(policy_checks(folder, table, baseline=baseline, **how))
    assert checks(baseline) == set()
    return make, checks


def test_executing_the_whole_chunk_is_seen(policies):
    make, checks = policies
    assert checks(make("blind"), execute=50) == {"executed steps"} and checks(make("blind"), execute=10) == set()
    assert checks(make("lazy", n_action_steps=50)) == set(), "an evaluation executes at most ten unless it is told otherwise"


def test_rebuilt_processors_are_seen(policies):
    make, checks = policies
    assert checks(make("almost", shift=1e-3)) == {"processors"}
    assert checks(make("other", shift=2.0)) == {"processors", "normalisation"}


def test_a_skipped_normalisation_is_seen(policies):
    make, checks = policies
    raw = {"VISUAL": "IDENTITY", "STATE": "IDENTITY", "ACTION": "IDENTITY"}
    folder = make("raw")
    for path in folder.glob("policy_*processor.json"):
        steps = read_json(path)
        for step in steps["steps"]:
            if "norm_map" in step["config"]: step["config"]["norm_map"] = raw
        write_json(path, steps)
    assert checks(folder) == {"processors", "normalisation"}


def test_an_action_that_is_never_unnormalised_is_seen(policies):
    make, checks = policies
    folder = make("half")
    path = folder / "policy_postprocessor.json"
    steps = read_json(path)
    write_json(path, steps | {"steps": [s for s in steps["steps"] if s["registry_name"] != "unnormalizer_processor"]})
    assert checks(folder) == {"processors", "normalisation"}


def test_a_lost_processor_file_cannot_tell(policies):
    make, checks = policies
    folder = make("lost")
    next(folder.glob("policy_preprocessor*.safetensors")).unlink()
    assert checks(folder) == {"processors", "normalisation"}


def test_normalised_actions_in_the_dataset_are_seen(copy):
    rewrite(copy, "action", lambda action, _: (action - action.mean(0)) / action.std(0))
    seen = found_in(copy)
    assert {"action range", "replay"} <= seen <= {"action range", "replay", "gripper sign", "control mode"}


STRAY = [("action", "std", 2.0), ("observation.state", "mean", 1.5), ("action", "max", None)]


@pytest.mark.parametrize("column, name, change", STRAY)
def test_statistics_of_other_data_are_seen_by_their_check_alone(copy, column, name, change):
    stats = read_json(copy / "meta/stats.json")
    stats[column][name] = [change and x * change for x in stats[column][name]]
    write_json(copy / "meta/stats.json", stats)
    looks = choose_checks(subject_checks(Subject(copy)), ["statistics", "keys", "action range"])
    results = {r.name: r for r in run_checks(looks)}
    assert {n for n, r in results.items() if not r.passed} == {"statistics"}
    assert f"{name} of {column}" in results["statistics"].saw and "recompute_stats" in results["statistics"].fix


# 4. to 5. Actions that cannot be had again; episodes that share a policy's state


class Remembering:
    """A policy with a memory: it answers how many decisions it has taken, beside a number that its instruction decides."""

    look, memory, batch = Look(1, 4), "off", 1

    def __init__(self, shared: bool = False, stream: np.random.Generator | None = None):
        self.shared, self.stream, self.taken = shared, stream, {}

    def decide(self, requests):
        return [Chunk(self.answer(r), DecisionRow(r.seen.step, 0.0, 0.0, 0.0, 0.0, 0.0, 0)) for r in requests]

    def answer(self, request):
        slot = 0 if self.shared else request.slot
        self.taken[slot] = 1 if request.seen.step == 0 else self.taken[slot] + 1
        noise = self.stream.standard_normal() if self.stream else 0.0
        return np.full((4, 4), self.taken[slot] + len(request.instruction) / 100 + noise, np.float32)


def test_episodes_that_share_a_memory_are_seen(sound):
    table = Subject(sound).table
    assert failed(agent_checks(Remembering, table)) == set()
    assert failed(agent_checks(lambda: Remembering(shared=True), table)) == {"episodes apart"}


def test_noise_from_one_stream_is_seen(sound):
    agent = Remembering(stream=np.random.default_rng(0))
    assert failed(agent_checks(lambda: agent, Subject(sound).table)) == {"episodes apart", "repeatable actions"}


# 6. Initial states that do not advance, or are set before the reset


class Stuck(MetaworldEnvironment):
    def reset(self, init_seed): return super().reset(0)


class Overwritten(MetaworldEnvironment):
    """Goes to the wanted state and then resets, which draws another one."""

    drawn = 0

    def reset(self, init_seed):
        Overwritten.drawn += 1
        super().reset(init_seed)
        return super().reset(10_000 + Overwritten.drawn)


def install(monkeypatch, world):
    """Every simulator that a check opens, to look or to replay, is this one."""
    monkeypatch.setattr(sim_visit, "make_environment", lambda c: world(c.task, c.settings))
    monkeypatch.setattr(replay, "blind_environment", lambda task: world(task))


@pytest.mark.parametrize("world, replayed", [(Stuck, set()), (Overwritten, {"replay"})])
def test_initial_states_that_are_not_reached_are_seen(sound, monkeypatch, world, replayed):
    """The recorded episodes start at the number where `Stuck` is stuck, so they replay."""
    install(monkeypatch, world)
    seen = found_in(sound)
    assert {"initial states"} | replayed <= seen <= {"initial states", "first frame"} | replayed


@pytest.mark.slow
def test_a_world_that_ignores_the_number_is_seen_beside_a_downloaded_dataset(copy, monkeypatch):
    """There the episode's own start is set by hand, and comes back whatever a reset does."""
    (copy / "meta" / "wmvla.json").unlink()
    own = MetaworldEnvironment.reset
    monkeypatch.setattr(MetaworldEnvironment, "reset", lambda self, init_seed: own(self, 0))
    assert "initial states" in found_in(copy, quality="fast")


# 7. No text, one text, another text


MUTE = [["", ""], *(pytest.param(texts, marks=pytest.mark.slow) for texts in (["do it", "do it"], ["open a drawer", "pick it"]))]


@pytest.mark.parametrize("texts", MUTE)
def test_wrong_instructions_are_seen_by_their_check_alone(copy, texts):
    write_texts(copy, texts)
    assert found_in(copy) == {"instructions"}


def test_one_right_text_for_two_tasks_is_seen_in_a_downloaded_dataset(copy):
    (copy / "meta" / "wmvla.json").unlink()
    write_texts(copy, [Subject(copy).table.instruction[0]] * 2)
    results = {r.name: r for r in run_checks(subject_checks(Subject(copy, quality="fast")))}
    assert not results["instructions"].passed and results["instructions"].saw.endswith("one text for 2 tasks")


# 8. Keys and cameras


def rename_column(folder, old, new):
    files = [folder / "meta" / "info.json", folder / "meta" / "stats.json"]
    for path in files: path.write_text(path.read_text().replace(f'"{old}"', f'"{new}"'))
    for path in [*folder.glob("data/*/*.parquet"), *folder.glob("meta/episodes/*/*.parquet")]:
        table = pq.read_table(path)
        names = [n.replace(old, new) if old in n.split("/") else n for n in table.column_names]
        pq.write_table(table.rename_columns(names), path)
    if (folder / "videos" / old).is_dir(): (folder / "videos" / old).rename(folder / "videos" / new)


RENAMED = [("observation.image", "observation.images.top", "cameras"), ("observation.state", "observation.robot_state", "keys")]


@pytest.mark.parametrize("old, new, check", RENAMED)
def test_a_renamed_column_is_seen_by_its_check_alone(copy, old, new, check):
    rename_column(copy, old, new)
    results = {r.name: r for r in run_checks(subject_checks(Subject(copy)))}
    assert {name for name, r in results.items() if not r.passed} == {check}
    assert new in results[check].saw, "the near miss is named"


def test_a_policy_that_asks_for_another_camera_is_seen(sound, policies):
    make, _ = policies
    assert found_in(sound, policy=make("eye", camera="observation.images.image")) == {"cameras"}
    assert found_in(sound, policy=make("same")) == set()


# 9. Orientation


TURNS = [lambda x: x[::-1], *(pytest.param(turn, marks=pytest.mark.slow)
                              for turn in (lambda x: x[:, ::-1], lambda x: x[::-1, ::-1], lambda x: np.rot90(x)))]  # fmt: skip


@pytest.mark.parametrize("turn", TURNS)
def test_a_turned_picture_is_seen(sound, monkeypatch, turn):
    class Turned(MetaworldEnvironment):
        def image(self): return np.ascontiguousarray(turn(super().image()))

    install(monkeypatch, Turned)
    assert found_in(sound) == PICTURES


# 10. The latent window


class Clips:
    """The mean of the pictures of a clip."""

    name, tokens, width = "clips", 1, 32 * 32 * 3

    def __init__(self, window=3, stride=2): self.window, self.stride = window, stride
    def encode(self, images): return (images.float().mean(1) if images.ndim == 5 else images.float()).flatten(1)[:, None] / 255
    def description(self): return {}
    def fingerprint(self): return "clips00000000000"


def test_another_window_than_the_caches_is_seen(sound, tmp_path):
    table = Subject(sound).table
    store = build_store(table, Clips(), tmp_path)
    assert failed(encoder_checks(table, lambda: store, Clips(), lambda: 9.0)) <= {"encoder spread"}  # too few episodes to probe

    def asked(encoder, pictures=None):
        size = Clips.width
        config = PolicyConfig(arm="F-history", latent=size, text=16, width=16, layers=1, heads=2, history=3, future=2, horizon=16)
        agent = WorldAgent(WorldPolicy(config, *(Normaliser.identity(n) for n in (size, 4, 4))).eval(), encoder, 10)
        if pictures: agent.look = Look(pictures, 10)
        return failed(agent_checks(lambda: agent, table, lambda: store))

    assert asked(Clips()) == set()
    for window, stride in ((1, 1), (2, 2), (3, 1)):
        assert asked(Clips(window, stride)) == {"latent window"}
    assert asked(Clips(), pictures=3) == {"latent window"}, "too few pictures are drawn"


# The gripper, and what an action means


def test_a_flipped_gripper_is_seen_in_the_dataset(copy):
    rewrite(copy, "action", lambda action, _: action * [1, 1, 1, -1])
    assert found_in(copy) == {"gripper sign", "replay"}


def test_a_flipped_gripper_is_seen_in_the_environment(sound, monkeypatch):
    class Flipped(MetaworldEnvironment):
        def step(self, action): return super().step(action * [1, 1, 1, -1])

    install(monkeypatch, Flipped)
    assert found_in(sound) == {"gripper sign", "replay"}


def test_a_gripper_from_0_to_1_is_seen(copy):
    rewrite(copy, "action", lambda action, _: np.concatenate([action[:, :3], (action[:, 3:] + 1) / 2], 1))
    seen = found_in(copy)
    assert "gripper sign" in seen or "replay" in seen, seen
    assert seen <= {"gripper sign", "replay"}


def test_absolute_actions_are_seen(copy):
    rewrite(copy, "action", lambda action, state: np.concatenate([np.roll(state[:, :3], -1, 0), action[:, 3:]], 1))
    seen = found_in(copy)
    assert {"control mode", "replay"} <= seen <= {"control mode", "replay", "gripper sign"}


# The command, and what a verdict makes of it


def run(capsys, *argv) -> tuple[int, str]:
    try: code = main([str(a) for a in argv])
    except SystemExit as end: code = end.code
    return code, capsys.readouterr().out


def test_the_command_prints_writes_and_exits(sound, copy, capsys, tmp_path):
    code, out = run(capsys, "preflight", sound, "--out", tmp_path / "fine.json")
    assert code == 0 and out.count("\npass ") == len(LOOKS) - 1 and out.startswith("pass instructions")
    provenance(copy, mujoco="3.8.1")
    code, out = run(capsys, "preflight", copy, "--checks", "rendering", "action_range")
    kept = read_json(copy.with_name("d.preflight.json"))
    assert code == 1 and "FAIL rendering: " in out and "pass action range: " in out and "1 of 2 checks passed" in out
    assert run(capsys, "preflight", copy, "--checks", "keys")[1].splitlines()[-2].startswith("1 of 1 checks passed (2 of all 3)")
    assert (kept["passed"], kept["failed"]) == (False, ["rendering"])
    assert [g["name"] for g in kept["checks"]] == ["action range", "rendering"]
    assert read_json(copy.with_name("d.preflight.json"))["failed"] == ["rendering"], "what it saw is not erased"
    assert run(capsys, "preflight", sound, "--checks", "rendring")[0] == 2
    code, out = run(capsys, "preflight", sound, "--list")
    assert code == 0 and out.splitlines() == list(LOOKS)


@pytest.mark.slow
def test_cannot_tell_blocks_like_a_failure(copy, capsys):
    (copy / "meta" / "wmvla.json").unlink()
    hide = lambda values, _: values * 0
    rewrite(copy, "observation.environment_state", hide)
    code, out = run(capsys, "preflight", copy, "--quality", "fast", "--checks", "replay", "first_frame", "keys")
    assert code == 1 and "cannot tell replay: " in out and "cannot tell first frame: " in out and "FAIL" not in out
    assert json.loads(copy.with_name("d.preflight.json").read_text())["cannot_tell"] == ["first frame", "replay"]


def test_a_verdict_is_refused_while_a_check_that_it_depends_on_failed(copy):
    from wmvla.checks.base import CheckResult
    from wmvla.core import EpisodeRecord
    from wmvla.stats.contrasts import contrast
    from wmvla.verdict.required_checks import CORE, judged, refusals
    from wmvla.verdict.rules import claim, gather_evidence

    rest = (9, 1.0, 0.0, 0.0, 1.0, 0)  # steps, latency, gate, share, entropy, nonfinite
    wins = {"A": ("off", 4), "F": ("pred", 12), "F-history": ("history", 4), "F-present": ("present", 4)}
    records = [EpisodeRecord(arm, seed, memory, "push-v3", i, 0, i < n, *rest)
               for arm, (memory, n) in wins.items() for seed in (0, 1) for i in range(12)]
    others = [CheckResult(n, True, "fine") for family in ("latents", "training", "rollout") for n in CORE[family]]
    results = run_checks(subject_checks(Subject(copy)))
    assert claim(gather_evidence(records, results + others)).claim != "blocked"
    alone = claim(gather_evidence(records, results))
    assert alone.claim == "blocked" and "no check of the family 'latents' was run" in alone.sentence, "silence blocks"
    provenance(copy, mujoco="3.8.1")
    results = run_checks(subject_checks(Subject(copy))) + others
    said = claim(gather_evidence(records, results))
    assert said.claim == "blocked" and "check 'rendering' failed: mujoco 3.8.1 then" in said.sentence
    assert "rendering" in said.checks and refusals("offline", results) == ()
    assert "check 'rendering' failed" in judged(contrast(records, "F", "A"), results).splitlines()[1]
    unsure = [replace(r, unsure=True) for r in results]
    assert "cannot tell" in claim(gather_evidence(records, unsure)).sentence


def test_a_baseline_that_never_succeeds_is_seen(sound, capsys, tmp_path):
    from wmvla.core import EpisodeRecord
    from wmvla.rollout.records import write_parquet

    for wins, code in ((0, 1), (1, 0)):
        rows = [EpisodeRecord("A", 0, "off", "push-v3", i, 0, i < wins, 9, 1.0, 0.0, 0.0, 1.0, 0) for i in range(3)]
        write_parquet(rows, tmp_path / "episodes.parquet")
        asked = ["--evaluation", tmp_path, "--checks", "baseline_success", "--out", tmp_path / "p.json"]
        ended, out = run(capsys, "preflight", sound, *asked)
        assert ended == code and f"the baseline succeeds in {wins} of 3 episodes" in out


# LIBERO


@pytest.fixture(scope="module")
def libero(tmp_path_factory):
    config = CollectConfig(("libero_spatial-0",), episodes_per_task=1, pixels=64, workers=1)
    return collect(tmp_path_factory.mktemp("libero") / "d", config)


@pytest.mark.slow
def test_a_libero_dataset_passes_and_another_control_mode_is_seen(libero):
    assert found_in(libero) == set()
    assert found_in(libero, control="absolute") == {"control mode"}


@pytest.mark.slow
def test_libero_pictures_as_the_simulator_draws_them_are_seen(libero, monkeypatch):
    from wmvla.sim.libero import LiberoEnvironment

    class Raw(LiberoEnvironment):
        def images(self): return {k: np.ascontiguousarray(x[::-1, ::-1]) for k, x in super().images().items()}

    monkeypatch.setattr(sim_visit, "make_environment", lambda c: Raw(c.task, c.settings))
    assert found_in(libero) == PICTURES


@pytest.mark.slow
def test_a_flipped_gripper_is_seen_in_a_libero_dataset(libero, tmp_path):
    copy = shutil.copytree(libero, tmp_path / "d")
    rewrite(copy, "action", lambda action, _: action * ([1] * 6 + [-1]))
    assert found_in(copy) == {"gripper sign", "replay"}
