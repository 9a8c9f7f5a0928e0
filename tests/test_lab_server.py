"""JupyterLab as `make lab` starts it: a real server, asked over its own interface."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psutil
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
SOURCE = "import random\nprint(random.random(), object())"


@dataclass(frozen=True)
class Server:
    """A running server, its checkout and what it printed."""

    process: subprocess.Popen
    url: str
    home: Path

    def ask(self, path: str, method: str = "GET", body: dict | None = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        head = {"Authorization": "token secret", "Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data, head, method=method), timeout=30) as answer:
            return json.loads(answer.read() or "{}")


def git(home: Path, *words: str) -> str:
    own = ["-c", "user.name=x", "-c", "user.email=x@localhost"]
    return subprocess.run(["git", *own, *words], cwd=home, capture_output=True, text=True, check=True).stdout


def executed(path: Path) -> nbformat.NotebookNode:
    """A notebook after Run All, as a kernel leaves it."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    return notebook


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """`wmvla lab` in a small checkout under git."""
    home, user = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("user")
    for folder in ("nbs/10_data", "wmvla"): (home / folder).mkdir(parents=True)
    (home / "settings.ini").write_text("[DEFAULT]\n")
    (home / ".gitignore").write_text("runs/\n.ipynb_checkpoints/\n")
    for name in ("start", "10_data/00_a"):
        cells = [nbformat.v4.new_markdown_cell("# a"), nbformat.v4.new_code_cell(SOURCE)]
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "python3"}})
        nbformat.write(notebook, home / f"nbs/{name}.ipynb")
    git(home, "init", "-q")
    git(home, "add", "-A")
    git(home, "commit", "-qm", "as it was")
    own = {"HOME": str(user), "JUPYTER_TOKEN": "secret", "JUPYTER_RUNTIME_DIR": str(user / "runtime")}
    passed = {k: v for k, v in os.environ.items() if not k.startswith("JUPYTER") and "NUM_THREADS" not in k}
    command = [Path(sys.executable).parent / "wmvla", "lab", "--no-browser", "--port", "8931"]
    with open(user / "log", "w") as log:
        process = subprocess.Popen(command, cwd=home / "nbs/10_data", env=passed | own, stderr=log, stdout=log)
    try:
        url = wait_for_url(process, user)
        yield Server(process, url, home)
    finally:
        process.terminate()
        process.wait(timeout=20)


def wait_for_url(process: subprocess.Popen, user: Path) -> str:
    """The address that the server wrote beside its process id."""
    for _ in range(240):
        for info in user.glob("runtime/jpserver-*.json"):
            text = info.read_text()
            if text.endswith("}"): return json.loads(text)["url"]
        assert process.poll() is None, (user / "log").read_text()[-2000:]
        time.sleep(0.5)
    raise AssertionError((user / "log").read_text()[-2000:])


def test_it_listens_to_this_machine_alone(server):
    assert server.url.startswith("http://127.0.0.1:")
    with pytest.raises(urllib.error.HTTPError, match="403"): urllib.request.urlopen(server.url + "api/contents", timeout=30)


def test_notebooks_and_runs_are_in_one_tree(server):
    (server.home / "runs/one").mkdir(parents=True, exist_ok=True)
    names = {entry["name"] for entry in server.ask("api/contents")["content"]}
    assert {"nbs", "runs"} <= names


def test_the_start_page_is_opened(server):
    request = urllib.request.Request(server.url, headers={"Authorization": "token secret"})
    with urllib.request.urlopen(request, timeout=30) as answer: assert answer.url.endswith("/lab/tree/nbs/start.ipynb")


def test_nobody_is_asked_about_news(server):
    setting = server.ask("lab/api/settings/@jupyterlab/apputils-extension:notification")
    assert setting["schema"]["properties"]["fetchNews"]["default"] == "false"


def test_run_all_and_save_leave_git_clean(server):
    ran = executed(server.home / "nbs/10_data/00_a.ipynb")
    server.ask("api/contents/nbs/10_data/00_a.ipynb", "PUT", {"type": "notebook", "format": "json", "content": ran})
    assert git(server.home, "status", "--porcelain") == ""
    kept = nbformat.read(server.home / "runs/lab/10_data/00_a.ipynb", as_version=4)
    assert kept.cells[1].execution_count == 1 and kept.cells[1].outputs[0].text == ran.cells[1].outputs[0].text


def test_without_the_hook_git_would_not_be_clean(server):
    """Guards the guard."""
    path = server.home / "nbs/10_data/00_a.ipynb"
    before = path.read_text()
    nbformat.write(executed(path), path)
    assert git(server.home, "status", "--porcelain").strip() == "M nbs/10_data/00_a.ipynb"
    path.write_text(before)


def test_a_cell_that_changed_brings_its_output(server):
    path = server.home / "nbs/10_data/00_a.ipynb"
    changed = nbformat.read(path, as_version=4)
    changed.cells[1].source = "print(1 + 1)"
    NotebookClient(changed, timeout=60, kernel_name="python3").execute()
    server.ask("api/contents/nbs/10_data/00_a.ipynb", "PUT", {"type": "notebook", "format": "json", "content": changed})
    saved = nbformat.read(path, as_version=4)
    assert saved.cells[1].outputs[0].text == "2\n" and saved.cells[1].execution_count is None
    git(server.home, "checkout", "-q", "nbs")


def test_kernels_know_their_threads_and_the_runs(server):
    kernel = server.ask("api/kernels", "POST", {"name": "python3"})
    try:
        family = psutil.Process(server.process.pid).children(recursive=True)
        (told,) = [child.environ() for child in family if "ipykernel" in " ".join(child.cmdline())]
    finally: server.ask(f"api/kernels/{kernel['id']}", "DELETE")
    assert int(told["OMP_NUM_THREADS"]) == max(1, len(os.sched_getaffinity(0)) // 2)
    assert told["WMVLA_RUNS"] == str(server.home / "runs")
