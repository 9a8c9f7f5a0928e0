"""A replaced picture file, and a damaged encoder: named by every command, and made whole by the flag that the sentence names."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wmvla.cli.main import main


def record(root: Path) -> Path:
    """Four episodes of noise in two tasks, pictures in the parquet file."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    vector = {"dtype": "float32", "shape": (4,), "names": None}
    picture = {"dtype": "image", "shape": (32, 32, 3), "names": ["height", "width", "channels"]}
    features = {"observation.image": picture, "observation.state": vector, "action": vector}
    dataset = LeRobotDataset.create("local/d", fps=10, features=features, root=root, use_videos=False)
    rng = np.random.default_rng(0)
    for e in range(4):
        for _ in range(6):
            numbers = rng.normal(size=4).astype(np.float32)
            image = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            vectors = {"observation.state": numbers, "action": numbers}
            dataset.add_frame({"observation.image": image, "task": f"task {e % 2}"} | vectors)
        dataset.save_episode()
    dataset.finalize()
    return root


def swap_pictures(root: Path) -> None:
    """Every picture becomes that of the row before it; no number changes."""
    file = next((root / "data").rglob("*.parquet"))
    table = pq.read_table(file)
    cells = table["observation.image"].to_pylist()
    moved = pa.array(cells[-1:] + cells[:-1], table.schema.field("observation.image").type)
    pq.write_table(table.set_column(table.column_names.index("observation.image"), "observation.image", moved), file)


def call(capsys, *args) -> tuple[int, str]:
    """Exit code of a command, and all that it said."""
    try:
        code = main(list(map(str, args)))
    except SystemExit as e:
        code = e.code
    said = capsys.readouterr()
    return code or 0, said.out + said.err


@pytest.fixture
def made(tmp_path, capsys, monkeypatch):
    """A dataset with its encoder and store, and the command that made them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    record(tmp_path / "d")
    small = ("--small", "enc", "--steps", 2, "--pixels", 32)
    encode = ("encode", "d", *small, "--cache", "c", "--workers", 1, "--shard_episodes", 2)
    code, said = call(capsys, *encode)
    assert code == 0, said
    return encode, next((tmp_path / "c").glob("*/*/*"))


def test_replaced_pictures_make_a_store_stale_until_it_is_repaired(made, capsys):
    encode, store = made
    train = ("train", "d", "--store", store, "--arm", "A", "--steps", 2, "--batch", 4, "--width", 16, "--layers", 1, "--heads", 2)
    assert call(capsys, *train, "--out", "one")[0] == 0
    before = {p.name: p.read_bytes() for p in store.glob("shard-*")}
    _, revision = call(capsys, "data", "d")
    swap_pictures(Path("d"))
    assert call(capsys, "data", "d")[1] != revision, "the revision is another"
    commands = {encode: 2, (*encode, "--verify"): 1, (*train, "--out", "two"): 2, (*train, "--out", "one"): 2}
    for command, expected in commands.items():
        code, said = call(capsys, *command)
        assert code == expected and "data/chunk-000/file-000.parquet" in said and "--repair" in said, (command, said)
    code, said = call(capsys, *encode, "--repair")
    assert code == 0 and "shard-00000.npy" in said, said
    after = {p.name: p.read_bytes() for p in store.glob("shard-*")}
    assert after.keys() == before.keys() and all(after[name] != before[name] for name in after)
    assert call(capsys, *encode, "--verify")[0] == call(capsys, *encode)[0] == call(capsys, *train, "--out", "two")[0] == 0
    code, said = call(capsys, *train, "--out", "one")
    assert code == 2 and "--replace" in said, "the training of the old latents is not finished, and not replaced without a word"


def test_a_store_without_noted_pictures_is_taken_over(made, capsys):
    encode, store = made
    file = store / "meta.json"
    whole = file.read_bytes()
    earlier = {k: v for k, v in json.loads(whole).items() if k not in ("seal", "pictures")}
    file.write_text(json.dumps(earlier))
    code, said = call(capsys, *encode)
    assert code == 0 and "was made before picture files were noted" in said and file.read_bytes() == whole
    assert {p.name for p in store.iterdir()} == {"meta.json", "encoder.json", "shard-00000.npy", "shard-00001.npy"}


def test_a_damaged_encoder_is_trained_again_to_the_same_latents(made, capsys):
    encode, store = made
    whole = {p: p.read_bytes() for root in (store, Path("enc")) for p in root.iterdir()}
    for name in ("model.safetensors", "manifest.json"):
        raw = Path("enc", name).read_bytes()
        Path("enc", name).write_bytes(raw[: len(raw) // 2] + bytes([raw[len(raw) // 2] ^ 1]) + raw[len(raw) // 2 + 1 :])
        code, said = call(capsys, *encode)
        assert code == 2 and "enc/" in said and "--repair" in said, said
        code, said = call(capsys, *encode, "--repair")
        assert code == 0, said
        for aside in Path().glob("enc.replaced-*"):
            shutil.rmtree(aside)
        assert {p: p.read_bytes() for root in (store, Path("enc")) for p in root.iterdir()} == whole, name
