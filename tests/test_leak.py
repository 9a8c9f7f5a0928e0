"""Nothing that is fitted has met a validation frame: two datasets that share their train frames give equal bits.

The validation part of the second dataset is poison (other pictures, huge states and actions). Whatever read a single one of its
frames while fitting would come out different; the controls fit on all frames and show that it does.
"""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from wmvla.core import UserError
from wmvla.data.episodes import read_episodes
from wmvla.data.splits import make_split, save_split
from wmvla.data.windows import episode_frames
from wmvla.encoders.small import SmallEncoderConfig, fit_encoder, load_encoder
from wmvla.latents.store import LatentStore
from wmvla.latents.write import build_store
from wmvla.policy.trunk import PolicyConfig
from wmvla.train.batches import fit_normalisers, load_data
from wmvla.world.tokens import TokensConfig, fit_tokens

EPISODES, FRAMES = 6, 10
ENCODER = SmallEncoderConfig(pixels=32, side=2, width=8, steps=4, batch=8)
TOKENS = {"kmeans": TokensConfig(codes=12), "fsq": TokensConfig("fsq", levels=(5, 3, 3))}


def record(root: Path, poisoned: tuple[int, ...] = ()):
    """A LeRobotDataset with stored pictures; the frames of the poisoned episodes are from elsewhere."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    vector = {"dtype": "float32", "shape": (3,), "names": None}
    picture = {"dtype": "image", "shape": (32, 32, 3), "names": ["height", "width", "channels"]}
    features = {"observation.image": picture, "observation.state": vector, "action": vector}
    dataset = LeRobotDataset.create("local/leak", fps=10, features=features, root=root, use_videos=False)
    for episode in range(EPISODES):
        strange = episode in poisoned
        rng = np.random.default_rng([episode, strange])
        for _ in range(FRAMES):
            image = rng.integers(0, 256 if strange else 64, (32, 32, 3)).astype(np.uint8)
            image[8:16, 8:16] = rng.integers(0, 256)
            state, action = (rng.normal(size=(2, 3)) * (1e4 if strange else 1)).astype(np.float32)
            task = ("push", "pull")[episode % 2]
            dataset.add_frame({"observation.image": image, "observation.state": state, "action": action, "task": task})
        dataset.save_episode()
    dataset.finalize()
    return read_episodes(root)


def prepared(table, folder: Path) -> SimpleNamespace:
    """A dataset's split, the encoder fitted on its train part, and the latents of all its frames."""
    split = make_split(table, 0.3)
    fit_encoder(table, split, ENCODER, folder / "encoder", 0)
    store = build_store(table, load_encoder(folder / "encoder"), folder / "cache")
    return SimpleNamespace(table=table, split=split, store=store, folder=folder)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """The clean dataset and its poisoned twin."""
    folder = tmp_path_factory.mktemp("leak")
    clean = prepared(record(folder / "clean" / "data"), folder / "clean")
    return clean, prepared(record(folder / "poisoned" / "data", clean.split.validation), folder / "poisoned")


def normalisers(world, split) -> dict[str, torch.Tensor]:
    save_split(split, world.folder / f"{split.hash}.json")
    sizes = PolicyConfig(latent=world.store.tokens * world.store.width, state=3, action=3)
    data = load_data(world.table.root, world.store.root, world.folder / f"{split.hash}.json", sizes)
    names = ("latents", "states", "actions")
    return {f"{n}.{k}": v for n, fit in zip(names, fit_normalisers(data), strict=True) for k, v in fit.state_dict().items()}


def encoder(world, split) -> dict[str, torch.Tensor]:
    fit_encoder(world.table, split, ENCODER, world.folder / split.hash, 0)
    return load_file(world.folder / split.hash / "model.safetensors")


def quantiser(world, split, kind: str) -> dict[str, torch.Tensor]:
    return dict(fit_tokens(world.table, world.store, split, TOKENS[kind]).quantiser.state_dict())


FITS = {
    "normalisers": normalisers,
    "encoder": encoder,
    "kmeans": lambda world, split: quantiser(world, split, "kmeans"),
    "fsq": lambda world, split: quantiser(world, split, "fsq"),
}


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> set[str]:
    assert one and one.keys() == other.keys()
    return {name for name in one if not torch.equal(one[name], other[name])}


def test_the_poison_is_where_it_should_be(worlds):
    clean, poisoned = worlds
    assert clean.split.train == poisoned.split.train and len(clean.split.validation) == 2
    for part, equal in (("train", True), ("validation", False)):
        frames = episode_frames(clean.table, getattr(clean.split, part))
        pairs = [(world.table.state[frames], world.table.action[frames]) for world in worlds]
        latents = [world.store.gather(frames) for world in worlds]
        assert all(np.array_equal(a, b) == equal for a, b in zip(*pairs, strict=True))
        assert torch.equal(*latents) == equal
    assert clean.table.revision != poisoned.table.revision


@pytest.mark.parametrize("name", FITS)
def test_what_is_fitted_is_bit_equal(worlds, name):
    one, other = (FITS[name](world, world.split) for world in worlds)
    assert differing(one, other) == set()


@pytest.mark.parametrize("name", FITS)
def test_a_leak_would_be_seen(worlds, name):
    """The control: fitted on all frames, each of these things does differ."""
    leaky = [replace(world.split, train=tuple(range(EPISODES)), validation=()) for world in worlds]
    one, other = (FITS[name](world, split) for world, split in zip(worlds, leaky, strict=True))
    assert differing(one, other), "this fit does not depend on its frames, so its equality proves nothing"
    if name == "normalisers":
        assert {key.partition(".")[0] for key in differing(one, other)} == {"latents", "states", "actions"}


class Guarded(LatentStore):
    """A store some of whose frames hold NaN to whoever reads them."""

    forbidden: torch.Tensor

    def gather(self, frames):
        return super().gather(frames).masked_fill(torch.isin(frames, self.forbidden)[..., None], torch.nan)


@pytest.mark.parametrize("kind", TOKENS)
def test_quantisers_do_not_even_read_a_validation_frame(worlds, kind):
    from wmvla.world.quantise import fit_quantiser
    from wmvla.world.tokens import store_source

    clean = worlds[0]
    guarded = Guarded(clean.store.root)
    guarded.forbidden = episode_frames(clean.table, clean.split.validation)
    train = episode_frames(clean.table, clean.split.train)
    fitted = fit_quantiser(store_source(guarded, train), TOKENS[kind].fit)
    assert fitted.fingerprint() == fit_tokens(clean.table, clean.store, clean.split, TOKENS[kind]).meta.fingerprint
    with pytest.raises(UserError, match="80 of 240 vectors hold NaN"):
        fit_quantiser(store_source(guarded, torch.arange(EPISODES * FRAMES)), TOKENS[kind].fit)
