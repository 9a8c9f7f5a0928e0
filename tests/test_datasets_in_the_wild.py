"""Datasets as other people's converters, editors, disks and hands leave them: read right, or refused in one sentence.

Each test alters a copy of one tiny LeRobotDataset in a way that public reports describe. The grey of a picture names its episode,
the column of a bright bar its frame, so that any other picture than the one asked for shows.
"""

import io
import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from wmvla.cli.main import main
from wmvla.core import UserError
from wmvla.data.episodes import decode_episode, decode_frames, read_episodes
from wmvla.data.splits import load_split

EPISODES, DATA, TASKS = "meta/episodes/chunk-000/file-000.parquet", "data/chunk-000/file-000.parquet", "meta/tasks.parquet"
EYE = "observation.image"
LENGTHS = (8, 9, 10, 11)


def picture(episode: int, frame: int) -> np.ndarray:
    """What the camera sees: grey of the episode, a bar at the frame."""
    image = np.full((32, 64, 3), 20 + 40 * episode, np.uint8)
    image[:, 4 * frame : 4 * frame + 4] = 255
    return image


def seen(image: np.ndarray) -> tuple[int, int]:
    """(episode, frame) that a picture shows."""
    bright = image[16, :, 0].astype(int)
    bar = int(np.flatnonzero(bright > 200)[0]) // 4 if (bright > 200).any() else -1
    return round((np.median(bright) - 20) / 40), bar


def record(root: Path, kind: str) -> Path:
    """Four episodes of two tasks."""
    from lerobot.configs.video import RGBEncoderConfig
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    vector = {"dtype": "float32", "shape": (3,), "names": ["x", "y", "z"]}
    features = {EYE: {"dtype": kind, "shape": (32, 64, 3), "names": ["height", "width", "channels"]}}
    features |= {"observation.state": vector, "action": vector}
    video = RGBEncoderConfig(vcodec="h264", pix_fmt="yuv444p", crf=0, preset="ultrafast")
    dataset = LeRobotDataset.create("toy/toy", 10, root=root, use_videos=kind == "video", features=features, rgb_encoder=video,
                                    encoder_threads=1, streaming_encoding=kind == "video")
    rng = np.random.default_rng(0)
    for episode, length in enumerate(LENGTHS):
        for frame in range(length):
            state, action = rng.normal(size=(2, 3)).astype(np.float32)
            task = ("open", "push")[episode % 2]
            dataset.add_frame({EYE: picture(episode, frame), "observation.state": state, "action": action, "task": task})
        dataset.save_episode()
    dataset.finalize()
    return root


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The two datasets that all others are copies of."""
    folder = tmp_path_factory.mktemp("wild")
    return {kind: record(folder / kind, kind) for kind in ("video", "image")}


@pytest.fixture
def videos(recorded, tmp_path):
    """A copy to alter, with a video."""
    return Path(shutil.copytree(recorded["video"], tmp_path / "d"))


@pytest.fixture
def images(recorded, tmp_path):
    """A copy to alter, with stored pictures."""
    return Path(shutil.copytree(recorded["image"], tmp_path / "d"))


def edit(path: Path, **columns) -> None:
    """Replace columns of a parquet file; None drops one, a function is given the old values."""
    table = pq.read_table(path)
    for name, new in columns.items():
        name = name.replace("__", "/").replace("EYE", EYE)
        if new is None: table = table.drop_columns([name]); continue
        values = new(table[name].to_pylist()) if callable(new) else new
        at = table.column_names.index(name)
        try: column = values if isinstance(values, pa.Array) else pa.array(values, table.schema.field(name).type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError): column = pa.array(values)
        table = table.set_column(at, name, column)
    pq.write_table(table, path)


def info(root: Path, **fields) -> None:
    """Replace fields of info.json; None drops one."""
    path = root / "meta/info.json"
    raw = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({k: v for k, v in raw.items() if v is not None}))


def feature(root: Path, name: str, **fields) -> None:
    raw = json.loads((root / "meta/info.json").read_text())["features"]
    info(root, features=raw | {name: raw[name] | fields})


def keep_rows(root: Path, keep: np.ndarray, renumber: bool = True) -> None:
    """Drop rows of the data; `renumber` frame_index and index, and correct the table of episodes."""
    table = pq.read_table(root / DATA).filter(pa.array(keep))
    pq.write_table(table, root / DATA)
    if not renumber: return
    episode = table["episode_index"].to_numpy()
    numbers, length = np.unique(episode, return_counts=True)
    start = np.cumsum(length) - length
    frame = np.concatenate([np.arange(n) for n in length])
    edit(root / DATA, index=np.arange(len(episode)), frame_index=frame)
    edit(root / EPISODES, length=length, dataset_from_index=start, dataset_to_index=start + length)
    info(root, total_frames=len(episode))


def is_right(table) -> bool:
    """Do all pictures show the episode and frame that they are asked for by?"""
    return all(seen(p) == (e, f) for e in range(table.n_episodes) for f, p in enumerate(decode_episode(table, e)))


def refused(root: Path, *words: str, decode: bool = False) -> str:
    """The sentence of a refusal, in which each of the words stands."""
    with pytest.raises(UserError) as error:
        table = read_episodes(root)
        if decode: [decode_episode(table, e) for e in range(table.n_episodes)]
    said = str(error.value)
    assert "\n" not in said and all(word in said for word in words), said
    return said


@pytest.mark.parametrize("kind", ["video", "image"])
def test_a_sound_dataset_is_read(recorded, kind):
    table = read_episodes(recorded[kind])
    assert is_right(table) and table.clock is None and table.numbers == () and table.size == (32, 64)


# one clock


def test_dropped_frames_are_sought_by_their_time(videos):
    frame = pq.read_table(videos / DATA)["frame_index"].to_numpy()
    keep = ~((frame < 5) & (frame % 2 == 1))
    keep_rows(videos, keep)
    table = read_episodes(videos)
    asked = [seen(p)[1] for p in decode_frames(table, range(table.n_frames))]
    assert asked == frame[keep].tolist() and table.clock is not None
    keep_rows(videos, pq.read_table(videos / DATA)["frame_index"].to_numpy() > 1)  # and now the first two of what is left
    assert seen(decode_frames(read_episodes(videos), [0])[0]) == (0, 4)


@pytest.mark.parametrize("fps", [20, 5, 10.6, 9.4, 30])
@pytest.mark.parametrize("kind", ["video", "image"])
def test_a_wrong_rate_is_named(recorded, tmp_path, kind, fps):
    root = Path(shutil.copytree(recorded[kind], tmp_path / "d"))
    info(root, fps=fps)
    assert "damaged" not in refused(root, "clocks of d contradict", f"`fps` says {fps}", "timestamps say 10")


@pytest.mark.parametrize("rate", [10.02, 9.97])
def test_clocks_may_differ_a_little(videos, rate):
    edit(videos / DATA, timestamp=lambda t: [x * 10 / rate for x in t])
    info(videos, fps=rate)
    assert is_right(read_episodes(videos))


def test_a_rate_need_not_be_whole(videos):
    import av

    root = videos
    for rate in (12.5, 29.97):
        (path,) = root.rglob("*.mp4")
        frames = [picture(e, f) for e, n in enumerate(LENGTHS) for f in range(n)]
        with av.open(str(path), "w") as film:
            stream = film.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000), options={"crf": "0"})
            stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv444p"
            for frame in frames: film.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            film.mux(stream.encode())
        end = np.cumsum(LENGTHS)
        edit(root / EPISODES, **{"videos__EYE__from_timestamp": (end - LENGTHS) / rate, "videos__EYE__to_timestamp": end / rate})
        edit(root / DATA, timestamp=[np.float32(f / rate) for n in LENGTHS for f in range(n)])
        info(root, fps=rate)
        table = read_episodes(root)
        assert table.fps == rate and is_right(table)


def move_spans(root: Path, change) -> None:
    """Other places in the video: `change(episode, from, to)`."""
    names = [f"videos/{EYE}/{part}_timestamp" for part in ("from", "to")]
    spans = list(zip(*(pq.read_table(root / EPISODES)[name].to_pylist() for name in names), strict=True))
    moved = zip(*(change(episode, *span) for episode, span in enumerate(spans)), strict=True)
    edit(root / EPISODES, **dict(zip(names, map(list, moved), strict=True)))


@pytest.mark.parametrize("drift", [0.02, 0.06, 0.1, -0.06, -0.1])
def test_places_in_a_joined_video_may_drift_by_a_frame(videos, drift):
    move_spans(videos, lambda episode, start, end: (start + drift * episode / 3, end + drift * episode / 3))
    assert is_right(read_episodes(videos))


def test_places_that_drifted_further_are_a_contradiction(videos):
    move_spans(videos, lambda episode, start, end: (start + 0.25 * (episode > 0), end + 0.25 * (episode > 0)))
    assert "damaged" not in refused(videos, "episode 1", "picture 8 lies at 0.8 s, the metadata expect it at 1.05 s", decode=True)


def test_one_span_twice(videos):
    move_spans(videos, lambda episode, start, end: (0.0, 1.1) if episode == 3 else (start, end))
    refused(videos, "Episodes 0 and 3", "claim the same span of the video")


def test_a_span_that_ends_early(videos):
    edit(videos / EPISODES, videos__EYE__to_timestamp=lambda t: [t[0] - 0.4, *t[1:]])
    refused(videos, "Episode 0 of d ends early in its video")


def test_a_video_cut_short_is_damaged(videos):
    (path,) = videos.rglob("*.mp4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(videos, "no picture for its frame", str(path), "damaged", decode=True)


@pytest.mark.parametrize("change, word", [
    (lambda t: [*t[:9], t[8], *t[10:]], "does not rise at frame 1 of episode 1"),
    (lambda t: [*t[:9], float("nan"), *t[10:]], "'timestamp'"),
    (lambda t: [x / 2 if 8 <= i < 17 else x for i, x in enumerate(t)], "timestamps of episode 1 say 20"),
])
def test_times_that_cannot_be(videos, change, word):
    edit(videos / DATA, timestamp=change)
    refused(videos, word)


# rows against the table of episodes


def test_lengths_contradict_the_rows(images):
    length = np.array([10, 7, 10, 11])
    start = np.cumsum(length) - length
    edit(images / EPISODES, length=length, dataset_from_index=start, dataset_to_index=start + length)
    refused(images, "episode 0 with 10 frames", "8 rows")


@pytest.mark.parametrize("column, values", [
    ("episode_index", lambda v: [*v[:8], 0, *v[9:]]), ("frame_index", lambda v: [1, *v[1:]]),
    ("frame_index", lambda v: [-1, *v[1:]]), ("index", lambda v: [x + (x > 9) for x in v])])
def test_rows_that_count_otherwise(images, column, values):
    edit(images / DATA, **{column: values})
    refused(images, "pisode")


def test_gaps_in_the_numbers_of_episodes_keep_them(videos, capsys):
    own = np.array([0, 3, 4, 9])
    edit(videos / EPISODES, episode_index=own)
    edit(videos / DATA, episode_index=own.repeat(LENGTHS))
    table = read_episodes(videos)
    assert table.numbers == (0, 3, 4, 9) and is_right(table) and table.place(9) == 3
    assert main(["data", str(videos), "--split"]) in (0, None)
    row = json.loads((videos.parent / "d.split.json").read_text())
    assert sorted(row["train"] + row["validation"]) == own.tolist() and "numbered 0 to 9 with gaps" in capsys.readouterr().out
    split = load_split(videos.parent / "d.split.json", table)
    assert sorted(split.train + split.validation) == [0, 1, 2, 3]
    edit(videos / DATA, action=lambda a: [*a[:20], [0.0, float("inf"), 0.0], *a[21:]])
    refused(videos, "'action' of d holds inf at frame 3 of episode 4")


def test_episodes_that_were_filtered_out_keep_the_numbers_of_the_others(images):
    keep_rows(images, pq.read_table(images / DATA)["episode_index"].to_numpy() != 1, renumber=False)
    pq.write_table(pq.read_table(images / EPISODES).filter(pa.array([True, False, True, True])), images / EPISODES)
    refused(images, "total_episodes 4, its tables hold 3")
    info(images, total_episodes=3, total_frames=29)
    table = read_episodes(images)  # `index` has a gap as well, and agrees with dataset_from_index
    assert table.numbers == (0, 2, 3) and seen(decode_episode(table, 1)[4]) == (2, 4)


@pytest.mark.parametrize("name, value", [("total_frames", 1000), ("total_episodes", 3)])
def test_counts_of_info(images, name, value):
    info(images, **{name: value})
    refused(images, f"says {name} {value}")


def test_metadata_in_several_files(videos):
    table = pq.read_table(videos / EPISODES)
    for at, rows in enumerate((slice(2, 4), slice(0, 2))):
        pq.write_table(table.slice(rows.start, 2), (videos / EPISODES).with_name(f"file-00{at}.parquet"))
    edit((videos / EPISODES).with_name("file-001.parquet"), length=lambda v: np.array(v, float))  # and in another type
    assert is_right(read_episodes(videos))
    (videos / EPISODES).with_name("file-001.parquet").unlink()
    refused(videos, "tables hold 2")
    info(videos, total_episodes=2, total_frames=21)
    refused(videos, "which meta/episodes does not list")


# files


@pytest.mark.parametrize("file", [DATA, EPISODES, TASKS])
@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_cut_table(images, file, share, capsys):
    raw = (images / file).read_bytes()
    (images / file).write_bytes(raw[: int(len(raw) * share)])
    assert "restore that file" in refused(images, str(images / file))
    assert main(["data", str(images)]) == 2 and "Traceback" not in capsys.readouterr().err


def test_files_of_file_managers_are_no_data(videos):
    for file in (DATA, EPISODES):
        (videos / file).with_name("._file-000.parquet").write_bytes(b"Mac OS X")
        (videos / file).parent.with_name(".ipynb_checkpoints").mkdir()
        shutil.copy(videos / file, (videos / file).parent.with_name(".ipynb_checkpoints") / "file-000-checkpoint.parquet")
    (videos / "meta/._info.json").write_bytes(b"Mac OS X")
    (videos / ".DS_Store").write_bytes(b"Mac OS X")
    assert is_right(read_episodes(videos))


@pytest.mark.parametrize("column", ["length", "dataset_from_index", "data__chunk_index", "videos__EYE__file_index"])
@pytest.mark.parametrize("value", [None, 0.5, float("nan"), "text"])
def test_whole_numbers_in_the_table_of_episodes(videos, column, value):
    edit(videos / EPISODES, **{column: lambda v: np.array(v, float)})
    assert is_right(read_episodes(videos))
    edit(videos / EPISODES, **{column: lambda v: pa.array([0.0, 1, value, 3]) if value != "text" else list("abcd")})
    refused(videos, column.replace("__", "/").replace("EYE", EYE), "episode")


@pytest.mark.parametrize("file, column", [
    (EPISODES, "length"), (EPISODES, "data__file_index"), (EPISODES, "videos__EYE__from_timestamp"), (DATA, "timestamp"),
    (DATA, "frame_index"), (DATA, "action"), (TASKS, "task_index")])
def test_a_column_that_is_not_there(videos, file, column):
    edit(videos / file, **{column: None})
    refused(videos, column.replace("__", "/").replace("EYE", EYE), Path(file).name)


def test_a_picture_file_that_is_not_there(videos):
    next(videos.rglob("*.mp4")).unlink()
    refused(videos, "is missing", decode=True)


# info.json


@pytest.mark.parametrize("field", ["fps", "features", "data_path", "video_path"])
def test_a_field_that_is_not_there(videos, field):
    info(videos, **{field: None})
    refused(videos, f"'{field}'", "info.json")


@pytest.mark.parametrize("field, value", [
    ("fps", 0), ("fps", -10), ("fps", "10"), ("fps", [10]), ("fps", True), ("features", []), ("features", {"action": "float32"}),
    ("data_path", "data/{nope}.parquet"), ("data_path", "{chunk_index[0]}"), ("video_path", 3),
    ("video_path", "{chunk_index.__class__}/{video_key}.mp4"), ("video_path", "{video_key:999999999d}"),
    ("total_frames", "many"), ("total_episodes", 1.5)])
def test_a_field_that_cannot_be(videos, field, value):
    info(videos, **{field: value})
    refused(videos, f"'{field}'", "info.json")


@pytest.mark.parametrize("path", ["/etc/{video_key}", "../{video_key}.mp4", "videos/../../{video_key}.mp4", "~/x.mp4"])
def test_paths_stay_inside(videos, path):
    info(videos, video_path=path)
    refused(videos, "outside the dataset")


def test_info_that_is_no_table(videos):
    for raw in (b"[]", b"3", b"", b"{", b'{"robot_type": "\xe9"}', b"\xff\xfe"):
        (videos / "meta/info.json").write_bytes(raw)
        refused(videos, "info.json")
    info_path = videos / "meta/info.json"
    info_path.write_text(json.dumps({"codebase_version": "v2.1", "fps": 10, "total_episodes": 4}))
    refused(videos, "'v2.1'", "convert_dataset_v21_to_v30")


@pytest.mark.parametrize("names, shape", [
    ({"axes": ["height", "width", "channels"]}, [32, 64, 3]), (["channels", "height", "width"], [3, 32, 64]),
    (["height", "width", "channel"], [32.0, 64.0, 3.0]), ({"height": 0, "width": 1, "channels": 2}, [32, 64, 3]),
    (None, [32, 64, 3]), (None, [3, 32, 64])])
def test_names_and_shapes_of_axes(images, names, shape, capsys):
    feature(images, EYE, names=names, shape=shape)
    feature(images, "action", names={"motors": ["x", "y", "z"]}, shape=[3.0])
    assert is_right(read_episodes(images))
    assert main(["data", str(images), "--keys"]) in (0, None) and "32 x 64" in capsys.readouterr().out


def test_a_rate_as_a_float(images):
    info(images, fps=10.0)
    assert read_episodes(images).fps == 10


# values


@pytest.mark.parametrize("column", ["action", "observation.state"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), None])
def test_values_that_are_not_finite(images, column, value, capsys):
    edit(images / DATA, **{column: lambda v: [*v[:18], [0.0, value, 0.0], *v[19:]]})
    refused(images, f"'{column}'", "frame 1 of episode 2")
    assert main(["data", str(images)]) == 2 and "frame 1 of episode 2" in capsys.readouterr().err


def test_rows_of_another_width(images):
    edit(images / DATA, action=lambda v: pa.array([*v[:18], [0.0, 1.0], *v[19:]], pa.list_(pa.float32())))
    refused(images, "'action'", "no vector of 3 numbers at frame 1 of episode 2")


def test_tasks(images, capsys):
    edit(images / TASKS, task=lambda v: ["put the cup\non the | plate\x1b[31m", v[1]])
    assert main(["data", str(images)]) in (0, None)
    out = capsys.readouterr().out
    assert "\non the" not in out and "\x1b" not in out and r"put the cup\non the \| plate" in out
    edit(images / DATA, task_index=lambda v: [float(x) for x in v])
    assert read_episodes(images).instruction[1] == "push"
    edit(images / DATA, task_index=lambda v: [7 if x else x for x in v])
    refused(images, "no instruction for 2 of 4 episodes", "episode 1")
    edit(images / TASKS, task_index=[0, 0])
    refused(images, "tasks.parquet does not give each task_index one text")


# pictures


def cells(root: Path, change) -> None:
    """Replace the stored pictures by what `change(row, picture)` returns."""
    table = pq.read_table(root / DATA)
    new = [change(i, Image.open(io.BytesIO(c["bytes"]))) for i, c in enumerate(table[EYE].to_pylist())]
    pq.write_table(table.set_column(table.column_names.index(EYE), EYE, pa.array(new, table.schema.field(EYE).type)), root / DATA)


def encoded(image: Image.Image, form: str = "PNG") -> dict:
    file = io.BytesIO()
    image.save(file, form)
    return {"bytes": file.getvalue(), "path": None}


def test_pictures_of_two_sizes(images):
    cells(images, lambda i, p: encoded(p.resize((96, 32)) if i >= 18 else p))
    refused(images, "32 x 96", "32 x 64", "frame 1 of episode 2", decode=True)


@pytest.mark.parametrize("form, mode", [("PNG", "I;16"), ("TIFF", "I;16"), ("TIFF", "F"), ("TIFF", "I")])
def test_pictures_of_more_than_8_bits(images, form, mode):
    kind = {"I;16": np.uint16, "F": np.float32, "I": np.int32}[mode]
    cells(images, lambda i, p: encoded(Image.fromarray(np.full((32, 64), 900, kind)), form))
    refused(images, "more than 8 bits", "frame 0 of episode 0", decode=True)


def test_pictures_that_are_grey_or_have_a_palette_are_read(images):
    cells(images, lambda i, p: encoded(p.convert("L" if i % 2 else "P"), "PNG"))
    assert is_right(read_episodes(images))


def test_pictures_as_paths(images):
    (images / "images").mkdir(exist_ok=True)

    def outside(i, p):
        p.save(images / f"images/{i}.png")
        return {"bytes": None, "path": f"images/{i}.png"}

    cells(images, outside)
    assert is_right(read_episodes(images))
    (images / "images/20.png").unlink()
    refused(images, "stored as the path 'images/20.png'", "frame 3 of episode 2", decode=True)


@pytest.mark.parametrize("path", ["../../secret.png", "/etc/hostname", ""])
def test_paths_of_pictures_stay_inside(images, path):
    raw = pq.read_table(images / DATA)
    new = pa.array([{"bytes": None, "path": path}] * len(raw), raw.schema.field(EYE).type)
    pq.write_table(raw.set_column(raw.column_names.index(EYE), EYE, new), images / DATA)
    refused(images, "names no file in the dataset", decode=True)


# names, and recordings that were killed


def test_a_path_with_a_slip_is_answered_at_once(recorded, capsys, monkeypatch):
    import wmvla.data.source as source

    monkeypatch.setattr(source, "find_on_hub", lambda *a, **k: pytest.fail("asked a hub"))
    monkeypatch.chdir(recorded["video"])
    for name in ("../vidoe", "./vidoe", "/nowhere/at/all", "~/nothing"):
        assert main(["data", name]) == 2 and "There is no LeRobotDataset at" in capsys.readouterr().err


def test_a_killed_recording_says_so(videos):
    from wmvla.data.source import work_folder
    from wmvla.demos.journal import Provenance, commit

    commit(videos, Provenance({}, "", "", 32, "fast", 10))
    assert is_right(read_episodes(videos))  # as committed
    raw = (videos / DATA).read_bytes()
    (videos / DATA).with_name("file-001.parquet").write_bytes(raw[:100])  # what a kill leaves
    refused(videos, "is unfinished; run the same `wmvla collect` again")
    shutil.rmtree(work_folder(videos))
    refused(videos, "file-001.parquet")
