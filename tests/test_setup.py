"""What tools/setup.sh finds and says on machines that lack something, played with programs of our own on PATH."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = ("tools/setup.sh", "tools/check_system.py", "requirements.lock", "setup.py", "settings.ini",
         "lerobot_policy_world_modality/pyproject.toml")  # fmt: skip
NEEDED = ("bash", "dirname", "grep", "sort", "cat", "tr", "sha256sum", "touch", "rm", "flock")
WHOLE = "libEGL.so.1 libEGL_mesa.so.0 libavcodec.so.59"


class Machine:
    """A copy of the set-up files and a PATH that holds what a test puts there and the plain tools only."""

    def __init__(self, root: Path):
        self.root, self.bin = root, root / "bin"
        self.bin.mkdir()
        for name in FILES:
            (root / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, root / name)
        for name in NEEDED:
            if found := shutil.which(name):
                (self.bin / name).symlink_to(found)
        self.has_libraries(WHOLE)
        self.program("id", "echo 1000")

    def program(self, name: str, body: str) -> Path:
        path = self.bin / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!{shutil.which('bash')}\n{body}\n")
        path.chmod(0o755)
        return path

    def python(self, name: str, version: str) -> Path:
        """Answers the one question that setup.sh asks a python, as Python `version` would."""
        good = version in ("3.12", "3.13")
        return self.program(name, f"echo {self.bin / name}" if good else "exit 1")

    def has_libraries(self, names: str) -> None:
        lines = "\n".join(f"echo '\t{n} (libc6,x86-64) => /lib/{n}'" for n in names.split())
        self.program("ldconfig", lines or "true")

    def setup(self, *args: str, **env: str) -> subprocess.CompletedProcess:
        env = {"PATH": str(self.bin), "HOME": str(self.root)} | env
        return subprocess.run([self.root / "tools/setup.sh", *args], env=env, capture_output=True, text=True, timeout=60)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_a_whole_machine_passes(machine):
    machine.python("python3.12", "3.12")
    done = machine.setup("--check")
    assert done.returncode == 0, done.stderr
    assert f"python: {machine.bin}/python3.12\n" in done.stderr
    assert not (machine.root / ".venv").exists(), "--check changes nothing"


def test_an_old_python_is_passed_over(machine):
    machine.python("python3.12", "3.11")  # a pyenv shim that refuses to run looks like this
    machine.python("python3", "3.11")
    newer = machine.python("../.pyenv/versions/3.12.7/bin/python", "3.12")
    assert f"{newer.parent.name}/python\n" in machine.setup("--check").stderr
    shutil.rmtree(machine.root / ".pyenv")
    assert "uv will fetch 3.12" in machine.setup("--check").stderr


def test_a_later_directory_of_path_counts(machine, tmp_path):
    machine.python("python3.12", "3.11")
    machine.python("../more/python3.12", "3.12")
    done = machine.setup("--check", PATH=f"{machine.bin}:{tmp_path}/more")
    assert "more/python3.12\n" in done.stderr


def test_pyenv_root_is_searched(machine, tmp_path):
    machine.python("../elsewhere/versions/3.13.0/bin/python", "3.13")
    assert "elsewhere/versions/3.13.0/bin/python\n" in machine.setup("--check", PYENV_ROOT=f"{tmp_path}/elsewhere").stderr


@pytest.mark.parametrize(
    "libraries, packages",
    [
        ("libavcodec.so.59", "libegl1 libgl1-mesa-dri"),
        ("libEGL.so.1 libavcodec.so.61", "libegl1 libgl1-mesa-dri"),  # the loader alone, without any driver
        ("libEGL.so.1 libEGL_nvidia.so.0", "ffmpeg"),
        ("", "libegl1 libgl1-mesa-dri ffmpeg"),
    ],
)
@pytest.mark.parametrize("args", [(), ("--check",)])
def test_missing_libraries_name_the_command(machine, libraries, packages, args):
    machine.python("python3.12", "3.12")
    machine.program("apt-get", "echo called >> $HOME/apt.log")
    machine.has_libraries(libraries)
    done = machine.setup(*args)
    command = f"sudo apt-get update && sudo apt-get install -y --no-install-recommends {packages}\n"
    assert done.returncode == 2 and command in done.stderr
    assert not (machine.root / "apt.log").exists(), "only root installs"
    assert not (machine.root / ".venv").exists()


def test_root_installs_them_itself(machine):
    machine.program("id", "echo 0")
    machine.program("apt-get", 'echo "$*" >> $HOME/apt.log; exit 100')
    machine.has_libraries("libEGL.so.1 libEGL_mesa.so.0")
    done = machine.setup()
    assert (machine.root / "apt.log").read_text() == "update -q\n"
    assert done.returncode == 2 and "apt-get failed" in done.stderr and "ffmpeg" in done.stderr


@pytest.fixture
def installer(machine):
    """A machine whose uv makes a .venv with a python in it and notes every call."""
    python = machine.python("python3.12", "3.12")
    machine.program("cp", f'exec {shutil.which("cp")} "$@"')
    machine.program("mkdir", f'exec {shutil.which("mkdir")} "$@"')
    body = f'echo "$*" >> $HOME/uv.log; [ "$1" = venv ] || exit 0; mkdir -p .venv/bin; cp {python} .venv/bin/python'
    machine.program("uv", body)

    def calls(**env: str) -> list[str]:
        """The first words of what uv was asked by one set-up that succeeds."""
        log = machine.root / "uv.log"
        log.unlink(missing_ok=True)
        done = machine.setup(**env)
        assert done.returncode == 0, done.stderr
        return [" ".join(line.split()[:2]) for line in log.read_text().splitlines()] if log.exists() else []

    return calls


def test_a_second_call_does_nothing(machine, installer):
    assert installer() == ["venv -q", "pip sync", "pip install"]
    assert installer() == []


@pytest.mark.parametrize("change", ["settings.ini", "requirements.lock", "libraries"])
def test_a_change_is_installed_into_the_same_environment(machine, installer, change):
    installer()
    if change == "libraries":
        machine.has_libraries(WHOLE + " libEGL_nvidia.so.0")
    else:
        (machine.root / change).write_text("changed")
    assert installer() == ["pip sync", "pip install"]


def test_a_killed_installation_starts_afresh(machine, installer):
    installer()
    (machine.root / ".venv/.ready").unlink()
    (machine.root / ".venv/.installing").touch()
    assert installer() == ["venv -q", "pip sync", "pip install"]
    assert installer() == []


@pytest.mark.parametrize("code, said", [(0, "ready"), (2, "going on without LIBERO-PRO's suites")])
def test_libero_pro_is_fetched_and_can_be_done_without(machine, installer, code, said):
    machine.program("../.venv/bin/python", f"echo {machine.root}/.venv/bin/python")
    machine.program("../.venv/bin/wmvla", f'echo "$*" >> $HOME/wmvla.log; exit {code}')
    done = machine.setup()
    assert done.returncode == 0 and said in done.stderr and (machine.root / ".venv/.ready").exists()
    assert (machine.root / "wmvla.log").read_text() == "libero-pro\n"
    machine.setup()
    assert (machine.root / "wmvla.log").read_text() == "libero-pro\n", "a machine that is set up is asked nothing"


def test_an_unknown_argument_is_refused(machine):
    done = machine.setup("--chek")
    assert done.returncode == 2 and "--check" in done.stderr


def test_an_unknown_stage_is_refused():
    done = subprocess.run([ROOT / "tools/test.sh", "notebook"], capture_output=True, text=True)
    assert done.returncode == 2 and "there is no stage 'notebook'; there are: ruff clean" in done.stderr and not done.stdout


@pytest.mark.parametrize("args, made", [((), ["test", "test-all"]), (("ruff", "clean"), ["test ARGS=ruff clean"])])
def test_a_build_runs_both_suites_or_the_stages_named(machine, args, made):
    run = machine.root / "checkout/.ci/run"
    run.parent.mkdir(parents=True)
    shutil.copy(ROOT / ".ci/run", run)
    machine.program("make", 'echo "$*" >> $HOME/make.log')
    env = {"PATH": str(machine.bin), "HOME": str(machine.root)}
    done = subprocess.run([run, *args], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (machine.root / "make.log").read_text().splitlines() == made


def test_the_slower_stages_are_named_apart():
    done = subprocess.run([ROOT / "tools/test.sh", "--all", "notebooks"], capture_output=True, text=True)
    assert done.returncode == 2 and "there is no stage 'notebooks'; there are: types heavy lessons slow" in done.stderr
