"""What .ci/run does about a browser before the tests, played with programs of our own on PATH."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def machine(tmp_path):
    """`run(*stages, **programs)`: .ci/run where PATH holds these programs, a `make` that says what is asked, and plain tools."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "dirname", "timeout", "sleep"): (programs / name).symlink_to(shutil.which(name))

    def run(*stages: str, **bodies: str) -> subprocess.CompletedProcess:
        for name, body in {"id": "echo 0", "make": 'echo "make $*"', **bodies}.items():
            path = programs / name.replace("_", "-")
            path.write_text(f"#!{shutil.which('bash')}\n{body}\n")
            path.chmod(0o755)
        env = {"PATH": str(programs), "CHROMIUM_SECONDS": "1"}
        return subprocess.run([tmp_path / ".ci/run", *stages], env=env, capture_output=True, text=True, timeout=30)

    return run


TESTS = ["make test", "make test-all"]


def test_a_browser_that_is_there_is_taken(machine):
    done = machine(chromium="true", apt_get="echo never; exit 1")
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, TESTS, "")


def test_it_is_installed_where_it_can_be(machine, tmp_path):
    done = machine(apt_get='echo "apt-get $*"')
    assert done.returncode == 0 and done.stdout.splitlines() == TESTS
    assert "apt-get install -y -q --no-install-recommends chromium" in done.stderr and "skip" not in done.stderr


@pytest.mark.parametrize("body", ["exit 100", "sleep 20"], ids=["refused", "hangs"])
def test_a_download_that_fails_or_hangs_fails_no_test(machine, body):
    done = machine(apt_get=body)
    assert done.returncode == 0 and done.stdout.splitlines() == TESTS
    assert "could not be installed within 1 s: browser tests skip" in done.stderr


@pytest.mark.parametrize("programs", [{}, {"apt_get": "echo never", "id": "echo 1000"}], ids=["no apt-get", "no root"])
def test_without_the_means_it_says_so(machine, programs):
    done = machine(**programs)
    assert done.returncode == 0 and done.stdout.splitlines() == TESTS and "browser tests skip" in done.stderr


def test_stages_run_alone_and_ask_for_no_browser_they_do_not_need(machine):
    done = machine("ruff", "clean", apt_get="echo never; exit 1")
    assert done.stdout.splitlines() == ["make test ARGS=ruff clean"] and done.stderr == ""
    assert "browser tests skip" in machine("pytest", apt_get="exit 1").stderr


def test_a_failing_test_fails_the_run(machine):
    assert machine(chromium="true", make="exit 3").returncode == 3
