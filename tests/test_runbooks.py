"""The runbooks' commands: every one parses, and those of the CPU's page are carried out, with its sizes for a first try.

A page runs as the bash script it is, in an empty folder. Its programs are stand-ins that ask this process what to do: it checks
flags with the parsers of the real programs, or calls their main functions (each would import LeRobot for 15 seconds on its own).
"""

import contextlib
import inspect
import io
import logging
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Listener
from pathlib import Path

import pytest

from wmvla.cli.flags import COMMANDS
from wmvla.cli.lerobot_eval import lerobot_eval_flags, lerobot_wm_eval
from wmvla.cli.lerobot_train import lerobot_wm_train
from wmvla.cli.main import main as wmvla
from wmvla.files import read_json

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs/runbooks").glob("*.md"))
SCRIPTS = [page for page in PAGES if "```sh" in page.read_text(encoding="utf-8")]
PROGRAMS = ("wmvla", "lerobot-train", "lerobot-eval", "lerobot-wm-train", "lerobot-wm-eval", "accelerate", "hf", "uv", "make",
            "git", "python", "sbatch", "srun", "squeue", "nvidia-smi", "rocm-smi")  # fmt: skip
STAND_IN = f"""#!{sys.executable} -S
import sys
from multiprocessing.connection import Client
with Client(sys.argv[1], "AF_UNIX") as pipe:
    pipe.send(sys.argv[2:])
    said, code = pipe.recv()
sys.stdout.write(said)
sys.exit(code)
"""
ENCODED = "10 frames of observation.image at cache/d@r/c/e\n"  # the line that pages read
SAID = {"wmvla": ENCODED}


def blocks(page: Path) -> list[str]:
    """The fenced shell blocks of a page."""
    return re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


@dataclass
class Stage:
    """An empty folder in which a page runs; `answer` says what a program prints and its exit code."""

    root: Path
    answer: Callable[[list[str]], tuple[str, int]]
    calls: list[list[str]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # what unsuccessful answers said: a background job has no other voice

    def serve(self, listener: Listener) -> None:
        """Answer the stand-ins until one says that the page is over."""
        while True:
            with listener.accept() as pipe:
                call = pipe.recv()
                if call == ["over"]: return
                self.calls.append(call)
                said, code = self.answer(call)
                if code: self.refused.append(said)
                pipe.send((said, code))

    def play(self, script: str) -> subprocess.CompletedProcess:
        """Run a script of bash under -euo pipefail in another thread, while this one answers."""
        folder = self.root / ".venv/bin"
        folder.mkdir(parents=True)
        socket = str(self.root / "s")
        (folder / "stand-in").write_text(STAND_IN)
        (folder / "stand-in").chmod(0o755)
        for name in PROGRAMS:
            (folder / name).write_text(f'#!/bin/bash\nexec "{folder}/stand-in" {socket} {name} "$@"\n')
            (folder / name).chmod(0o755)
        text = f'PATH="{folder}:$PATH"; cd() {{ :; }}\n{script}'
        done: list[subprocess.CompletedProcess] = []
        with Listener(socket, "AF_UNIX") as listener:

            def run() -> None:
                bash = ["bash", "-euo", "pipefail", "-c", text]
                done.append(subprocess.run(bash, cwd=self.root, capture_output=True, text=True))
                subprocess.run([folder / "stand-in", socket, "over"], capture_output=True)

            thread = threading.Thread(target=run)
            thread.start()
            self.serve(listener)
            thread.join()
        return done[0]


# What the real programs say to the flags


@pytest.fixture(scope="module")
def train_parser():
    """What `lerobot-train` parses its flags with, the plugin's types included."""
    from draccus.argparsing import ArgumentParser
    from lerobot.configs.train import TrainPipelineConfig
    from lerobot.utils.import_utils import register_third_party_plugins

    register_third_party_plugins()
    return ArgumentParser(TrainPipelineConfig)


def check_train(flags: list[str], train_parser) -> None:
    """Do `lerobot-train`'s flags exist, and do their values decode? The policy of a checkpoint is taken for a SmolVLA."""
    from lerobot.configs import parser

    assert all(flag.startswith("--") and "=" in flag for flag in flags), f"LeRobot's flags are written --name=value: {flags}"
    named = dict(flag[2:].split("=", 1) for flag in flags)
    if "config_path" in named:
        assert named["config_path"].endswith("/train_config.json") and named["resume"] == "true"
        flags = ["--dataset.repo_id=x", *(flag for flag in flags if not flag.startswith(("--config_path", "--resume")))]
    elif "policy.path" in named:
        own = [flag for flag in flags if flag.startswith("--policy.") and not flag.startswith("--policy.path")]
        flags = [*parser.filter_path_args(["policy"], flags), "--policy.type=smolvla", *own]
    parsed = train_parser.parse_args(flags)
    assert named.get("output_dir") is None or parsed.output_dir == Path(named["output_dir"])


def check_accelerate(words: list[str], train_parser) -> None:
    """`accelerate launch` parses its flags and finds `lerobot-train` behind them."""
    from accelerate.commands.launch import launch_command_parser

    assert words[0] == "launch"
    args = launch_command_parser().parse_args(words[1:])
    assert Path(args.training_script).name == "lerobot-train" and args.multi_gpu and args.num_processes > 1
    check_train(args.training_script_args, train_parser)


def check_wmvla(words: list[str]) -> None:
    """`wmvla`'s own parser takes the flags; an experiment and its parameters exist."""
    import argparse

    from wmvla.studies.papermill import find_experiment, parse_parameters

    parser = argparse.ArgumentParser(words[0], exit_on_error=False)
    COMMANDS[words[0]].flags(parser)
    args = parser.parse_args(words[1:])
    if words[0] == "run": parse_parameters(find_experiment(args.experiment), args.p)


def check_wm_eval(flags: list[str]) -> None:
    import argparse

    parser = argparse.ArgumentParser("lerobot-wm-eval", exit_on_error=False)
    lerobot_eval_flags(parser)
    parser.parse_args(flags)


def check_eval(flags: list[str]) -> None:
    """`lerobot-eval`'s own flags are written --name=value, below a field of its configuration."""
    import dataclasses

    from lerobot.configs.eval import EvalPipelineConfig

    known = {field.name for field in dataclasses.fields(EvalPipelineConfig)}
    found = [re.fullmatch(r"--([\w]+)(\.[\w.]+)?=.+", flag) for flag in flags]
    assert all(found) and {match[1] for match in found} <= known, flags


def check_hf(words: list[str]) -> None:
    """The hub's client knows the flags; nothing is fetched."""
    from huggingface_hub.cli.download import download

    assert words[0] == "download"
    known = {name.replace("_", "-") for name in inspect.signature(download).parameters}
    flags = {word[2:] for word in words if word.startswith("--")}
    assert flags <= known, f"hf download has no {flags - known}"


def check_srun(words: list[str], train_parser) -> None:
    """SLURM's flags come first, as --name=value, then a program of ours."""
    known = {"--gres", "--cpus-per-task", "--mem", "--time", "--job-name"}
    at = next(i for i, word in enumerate(words) if not word.startswith("--"))
    assert {word.split("=")[0] for word in words[:at]} <= known
    check([Path(words[at]).name, *words[at + 1 :]], train_parser)


def check(call: list[str], train_parser) -> None:
    """Raise or exit where a program would refuse these words."""
    program, *words = call
    if program == "wmvla": check_wmvla(words)
    elif program == "lerobot-train": check_train(words, train_parser)
    elif program == "lerobot-wm-train": check_train([word for word in words if not word.startswith("--wm.checks=")], train_parser)
    elif program == "lerobot-wm-eval": check_wm_eval(words)
    elif program == "lerobot-eval": check_eval(words)
    elif program == "accelerate": check_accelerate(words, train_parser)
    elif program == "hf": check_hf(words)
    elif program == "srun": check_srun(words, train_parser)
    elif program == "make": assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.M)
    elif program == "python" and words[0] == "-c": compile(words[1], "runbook", "exec")
    elif program == "python": assert (ROOT / words[0]).is_file()
    else: assert program in PROGRAMS


def answer_by_checking(train_parser) -> Callable[[list[str]], tuple[str, int]]:
    """Says nothing, as a program that is content; a refusal becomes its exit code."""

    def answer(call: list[str]) -> tuple[str, int]:
        try: check(call, train_parser)
        except (Exception, SystemExit) as error: return f"{shlex.join(call)}\n    {type(error).__name__}: {error}\n", 2
        return SAID.get(call[0], ""), 0

    return answer


@pytest.mark.parametrize("page", SCRIPTS, ids=lambda page: page.stem)
def test_every_command_parses(page, train_parser, tmp_path, monkeypatch):
    import wmvla.smolvla.configuration_smolvla_world as plugin

    monkeypatch.setattr(plugin, "adopt", lambda config: None)  # the base is not there, and is not what is asked about
    stage = Stage(tmp_path, answer_by_checking(train_parser))
    (tmp_path / "encode.log").write_text(ENCODED)
    jobs = [block for block in blocks(page) if block.startswith("#!")]
    done = stage.play("\n".join(block for block in blocks(page) if block not in jobs))
    assert done.returncode == 0 and not stage.refused, f"{stage.refused}\n{done.stderr[-3000:]}"
    assert "unbound variable" not in done.stderr, done.stderr
    assert len(stage.calls) >= 4
    sent = [call for call in stage.calls if call[0] == "sbatch"]
    assert bool(sent) == bool(jobs)
    for number, call in enumerate(sent):
        (tmp_path / f"job{number}").mkdir()
        job = Stage(tmp_path / f"job{number}", answer_by_checking(train_parser))
        arm = call[call.index("arm.sbatch") + 1 :]
        done = job.play(f"set -- {shlex.join(arm)}\n{jobs[0]}")
        assert done.returncode == 0 and len(job.calls) == 1, f"{job.refused}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize(
    "call, said",
    [
        ("lerobot-train --policy.type=smolvla_world --dataset.repo_id=x --policy.world_memory_mode=pred", "world_memory_mode"),
        ("lerobot-train --policy.type=smolvla_world --dataset.repo_id=x --policy.world_memory_mode_train=future", "future"),
        ("lerobot-train --policy.path=base --dataset.repo_id=x --stepz=2", "stepz"),
        ("lerobot-train --policy.path=base --dataset.repo_id=x --policy.nothing=2", "nothing"),
        ("wmvla encode d --encodr small", "encodr"),
        ("wmvla run smolvla_arms -p presset tiny", "presset"),
        ("lerobot-wm-eval --policy.path=base --env.tusk=push-v3", "tusk"),
        ("accelerate launch --multi_gpu --num_processes=2 .venv/bin/lerobot-train --dataset.repo_id=x --stepz=2", "stepz"),
        ("hf download lerobot/smolvla_base --repo_type model", "repo_type"),
        ("make sutup", "sutup"),
        ("lerobot-eval --policie.path=F", "policie"),
    ],
)
def test_a_wrong_flag_is_refused(call, said, train_parser, capsys):
    """Guards the guard."""
    text, code = answer_by_checking(train_parser)(shlex.split(call))
    printed = capsys.readouterr()
    assert code == 2 and said in text + printed.err + printed.out


def test_a_variable_that_no_page_sets_is_refused(tmp_path):
    done = Stage(tmp_path, lambda call: ("", 0)).play("wmvla data $NOWHERE")
    assert done.returncode != 0 and "NOWHERE" in done.stderr


@pytest.mark.parametrize("page", SCRIPTS, ids=lambda page: page.stem)
def test_no_command_hides_that_it_failed(page):
    hides, text = re.compile(r"\|\||\bset \+e\b|[;&]\s*(true|:)\s*$", re.M), "\n".join(blocks(page))
    assert [found[0] for found in hides.finditer(text)] == []
    assert "| tee" not in text or text.index("set -o pipefail") < text.index("| tee"), "tee succeeds whatever it is fed"


def test_pages_link_to_pages():
    for page in PAGES:
        for name, anchor in re.findall(r"\]\((\w+\.md)(?:#([\w-]+))?\)", page.read_text(encoding="utf-8")):
            text = (page.parent / name).read_text(encoding="utf-8")
            titles = {re.sub(r"\W+", "-", title.lower()) for title in re.findall(r"^#+ (.+)$", text, re.M)}
            assert not anchor or anchor in titles, f"{page.name} links to {name}#{anchor}"


# The CPU's page, carried out


def lerobot_train(words: list[str]) -> int:
    """`lerobot-train` in this process."""
    from lerobot.scripts.lerobot_train import main

    kept = sys.argv
    sys.argv = ["lerobot-train", *words]
    try: main()
    finally: sys.argv = kept
    return 0


OURS = {"wmvla": wmvla, "lerobot-wm-eval": lerobot_wm_eval, "lerobot-train": lerobot_train, "lerobot-wm-train": lerobot_wm_train,
        "python": lambda words: exec(words[1], {}) or 0}  # fmt: skip


def carry_out(call: list[str]) -> tuple[str, int]:
    """Really do what ours is; what installs, and what would begin all over in a notebook, is left out."""
    program, *words = call
    if program in ("git", "make") or words[0] == "run": return "", 0
    said, root = io.StringIO(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with contextlib.redirect_stdout(said):
        try:
            code = OURS[program](words)
        except SystemExit as end: code = end.code if isinstance(end.code, int) else 1
        except Exception as error:
            logging.exception("%s", shlex.join(call))
            said.write(f"{shlex.join(call)}\n    {type(error).__name__}: {error}\n")
            code = 1
    root.handlers[:] = handlers  # LeRobot puts its own in their place
    root.setLevel(level)
    return said.getvalue(), code


def store_of(said: str) -> str:
    """The encoder of the store that `wmvla encode` names."""
    return re.findall(r" frames of .* at (\S+)", said)[-1] + "/encoder.json"


@pytest.mark.slow
def test_the_cpu_page_runs_from_data_to_verdict(tmp_path, monkeypatch):
    page = ROOT / "docs/runbooks/cpu.md"
    first_try = re.search(r"For a first try.*?`(EPISODES=[^`]+)`", page.read_text(), re.S)[1]
    sizes = [block for block in blocks(page) if "EPISODES=" in block]
    assert len(sizes) == 1
    names = lambda text: set(re.findall(r"\b([A-Z_]+)=", text))
    assert names(first_try) == names(sizes[0]) - {"TASKS"}, "a size that the first try does not set"
    script = "\n".join(block + (first_try + "\n" if block in sizes else "") for block in blocks(page))
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "Makefile", tmp_path)
    stage = Stage(tmp_path, carry_out)
    done = stage.play(script)
    assert done.returncode == 0 and not stage.refused, f"{stage.refused}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    last = lambda arm: tmp_path / f"runs/cpu/{arm}/checkpoints/last"
    configs = {arm: read_json(last(arm) / "pretrained_model/config.json") for arm in ("E0", "E1", "E2")}
    assert [c["type"] for c in configs.values()] == ["smolvla", "smolvla_world", "smolvla_world"]
    assert [c.get("world_memory_mode_train") for c in configs.values()] == [None, "zero", "pred"]
    assert last("E2").resolve().name == "000004", "resumed to twice the steps"
    assert (tmp_path / "eval/cpu/episodes.parquet").is_file() and list((tmp_path / "eval/cpu/claims").glob("*/claim.md"))
    # checks run again on two of the five policies, beside the episodes: added to what lerobot-wm-eval kept, not refused
    e0, e1, e2 = (str(last(arm) / "pretrained_model") for arm in ("E0", "E1", "E2"))
    said, code = carry_out(["wmvla", "preflight", "data/cpu", "--encoder", store_of(done.stdout), "--cache", "data/cache",
                            "--evaluation", "eval/cpu", "--policy", e2, e1, "--baseline", e0])  # fmt: skip
    kept = read_json(tmp_path / "eval/cpu/preflight.json")
    assert code == 1 and kept["failed"] == ["baseline success"], f"{said}\nafter two steps only the baseline's success fails"
    assert len(kept["policy"]) == 5 and not kept["cannot_tell"]
