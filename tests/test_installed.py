"""The wheels that a user installs, in an environment that knows nothing of this checkout.

The big packages come from this environment, linked one by one; the checkout's `wmvla`, its plugin and the hooks of their editable
installation are left out. Everything runs in an empty folder elsewhere.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import pytest

from wmvla.files import read_json

ROOT = Path(__file__).parent.parent
PLUGIN = "lerobot_policy_world_modality"
OURS = ("wmvla", PLUGIN, "__editable__")  # beginnings of the names that must not be seen
SHELVES = ("experiments", "benchmarks", "tutorials")
BUILD = "import sys, setuptools.build_meta as b; print(getattr(b, 'build_' + sys.argv[1])(sys.argv[2]))"

pytestmark = pytest.mark.slow


def build(source: Path, what: str, out: Path) -> Path:
    """The wheel or sdist of a source folder, built with this environment's setuptools, as pip does without isolation."""
    out.mkdir(exist_ok=True)
    done = subprocess.run([sys.executable, "-c", BUILD, what, out], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return out / done.stdout.split()[-1]


@dataclass(frozen=True)
class Installed:
    """An environment and an empty folder to stand in."""

    env: Path
    work: Path
    wheel: Path

    def run(self, *command: str | Path, timeout: float = 900) -> subprocess.CompletedProcess:
        """A program of the environment; nothing in the variables points back to the checkout."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "PYTEST"))}
        kept |= {"PATH": f"{self.env / 'bin'}:/usr/bin:/bin", "HF_HUB_OFFLINE": "1"}
        return subprocess.run([*map(str, command)], cwd=self.work, env=kept, capture_output=True, text=True, timeout=timeout)

    def python(self, code: str) -> str:
        """What some code prints there."""
        done = self.run(self.env / "bin/python", "-c", code)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.strip()


def layered(env: Path) -> None:
    """An environment that sees this one's packages but ours; lerobot's commands are copied into it."""
    venv.create(env, with_pip=False, symlinks=True)
    layer, site = env / "layer", next(env.glob("lib/python3*/site-packages"))
    layer.mkdir()
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not entry.name.startswith(OURS): (layer / entry.name).symlink_to(entry)
    (env / "share").symlink_to(Path(sys.prefix) / "share")  # Jupyter's kernel and nbconvert's templates
    (site / "layer.pth").write_text(f"{layer}\n")  # a path only: hooks (.pth) that stand in it are not read
    script = (Path(sys.executable).parent / "lerobot-train").read_text().split("\n", 1)[1]
    (env / "bin/lerobot-train").write_text(f"#!{env}/bin/python\n{script}")
    (env / "bin/lerobot-train").chmod(0o755)


def install(env: Path, wheel: Path) -> None:
    """Unpack a wheel as installers do, and write the commands that it declares."""
    site = next(env.glob("lib/python3*/site-packages"))
    with zipfile.ZipFile(wheel) as file: file.extractall(site)
    (made,) = distributions(name=wheel.name.split("-")[0], path=[str(site)])
    for command in made.entry_points.select(group="console_scripts"):
        # guarded, as installers write it: worker processes import the script that started them
        code = f"import sys\nfrom {command.module} import {command.attr}\nif __name__ == '__main__': sys.exit({command.attr}())\n"
        (env / "bin" / command.name).write_text(f"#!{env}/bin/python\n{code}")
        (env / "bin" / command.name).chmod(0o755)


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Installed:
    """wmvla alone, from a wheel that was built from the sdist of a copy of what git tracks."""
    root = tmp_path_factory.mktemp("installed")
    source, env, work = root / "source", root / "env", root / "work"
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if not (ROOT / name).is_file(): continue  # removed, and not committed yet
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    sdist = build(source, "sdist", root / "dist")
    shutil.unpack_archive(sdist, root / "unpacked", filter="data")
    wheel = build(next((root / "unpacked").iterdir()), "wheel", root / "dist")
    layered(env)
    install(env, wheel)
    work.mkdir()
    return Installed(env, work, wheel)


@pytest.fixture(scope="module")
def both(installed) -> Installed:
    """The plugin's wheel beside it."""
    source = installed.wheel.parent.parent / "plugin"
    shutil.copytree(ROOT / PLUGIN, source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
    install(installed.env, build(source, "wheel", installed.wheel.parent))
    return installed


def test_the_wheel_holds_what_people_run(installed):
    with zipfile.ZipFile(installed.wheel) as file: names = set(file.namelist())
    tracked = {path for shelf in SHELVES for path in (ROOT / "nbs" / shelf).iterdir()
               if path.suffix in (".ipynb", ".toml") and not path.name.startswith(("_", "."))}  # fmt: skip
    pages = {"wmvla/notebooks/index.ipynb", "wmvla/notebooks/start.ipynb"}
    assert {f"wmvla/notebooks/{path.parent.name}/{path.name}" for path in tracked} | pages == {
        name for name in names if name.startswith("wmvla/notebooks/")}
    assert not [name for name in names if name.startswith(("tests/", "nbs/", PLUGIN))]


def test_nothing_of_the_checkout_is_seen(installed):
    said = installed.python("import sys, wmvla; print(wmvla.__file__, *sys.path, sep='\\n')").splitlines()
    assert said[0].startswith(str(installed.env)) and not [path for path in said[1:] if path.startswith(str(ROOT))]


def test_own_commands_need_no_plugin(installed):
    """`lerobot-wm-train` knows the types; plain `lerobot-train` does not yet."""
    done = installed.run("lerobot-wm-train", "--policy.type=smolvla_world", "--dataset.repo_id=local/none", "--steps=0")
    assert "invalid choice" not in done.stderr and "'repo_id' argument missing" in done.stderr, done.stderr[-2000:]
    done = installed.run("lerobot-train", "--policy.type=smolvla_world", "--dataset.repo_id=local/none")
    assert done.returncode and "invalid choice: 'smolvla_world'" in done.stderr, done.stderr[-2000:]


def test_run_lists_what_a_checkout_lists(installed):
    from wmvla.studies.papermill import list_experiments, own_notebooks

    done = installed.run("wmvla", "run")
    assert done.returncode == 0, done.stderr
    mine = [e.name for e in list_experiments([own_notebooks() / shelf for shelf in SHELVES])]
    assert [line.split()[0] for line in done.stdout.splitlines()] == mine and "report" in mine


def test_the_demo_runs_to_its_report(both):
    done = both.run("wmvla", "demo", "--preset", "tiny")
    assert done.returncode == 0, done.stderr[-3000:]
    report = next(both.work.glob("runs/*/report.html"))
    assert report.stat().st_size > 100_000 and report.name in done.stdout


def test_plain_lerobot_train_knows_the_type(both, tmp_path):
    from test_smolvla_world import encode, flags_of, record

    from wmvla.smolvla.tiny_vlm import TINY_VLM, make_vlm, smolvla_settings

    dataset, vlm = record(tmp_path / "dataset"), make_vlm(TINY_VLM, tmp_path / "vlm", ["close the drawer"])
    policy = smolvla_settings(TINY_VLM, vlm) | {"type": "smolvla_world", "chunk_size": 6, "n_action_steps": 4, "device": "cpu",
              "push_to_hub": False, "world_store": encode(dataset, tmp_path), "world_history": 2, "world_future": 3,
              "world_prophet_width": 16}  # fmt: skip
    run = {"dataset.repo_id": "local/colours", "dataset.root": dataset, "output_dir": tmp_path / "out", "steps": 1,
           "batch_size": 2, "num_workers": 0, "wandb.enable": False}  # fmt: skip
    done = both.run("lerobot-train", *flags_of(run, ""), *flags_of(policy, "policy."))
    assert done.returncode == 0, done.stderr[-3000:]
    config = read_json(tmp_path / "out/checkpoints/last/pretrained_model/config.json")
    assert config["type"] == "smolvla_world" and config["world_fingerprint"]
