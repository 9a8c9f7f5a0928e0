"""No module of the package runs what a file of others says, and none asks on stdin."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(p for p in (ROOT / "wmvla").rglob("*.py") if p.name != "_modidx.py")
OWN = {("measure", "cloudpickle.loads"), ("parallel", "pickle.loads")}  # what this process's own children sent
RUNS_IT = {"eval", "exec", "compile", "input", "os.system", "pickle.load", "pickle.loads", "cloudpickle.load",
           "cloudpickle.loads", "dill.load", "dill.loads", "joblib.load", "yaml.load", "yaml.unsafe_load",
           "marshal.loads", "shelve.open"}  # fmt: skip
TRANSFORMERS = ("transformers.", "Auto")  # transformers.AutoModel..., AutoConfig...


def name_of(function: ast.expr) -> str:
    """`a.b.c` of a called expression; `?` for the part that is no name."""
    parts = []
    while isinstance(function, ast.Attribute):
        parts.append(function.attr)
        function = function.value
    return ".".join(reversed([*parts, function.id if isinstance(function, ast.Name) else "?"]))


def given(call: ast.Call, name: str) -> object:
    """The constant value of a keyword argument; `...` where it is absent or not a constant."""
    return next((k.value.value for k in call.keywords if k.arg == name and isinstance(k.value, ast.Constant)), ...)


def faults(source: str, module: str = "") -> list[str]:
    """One line for each call that could run foreign code."""
    tree, found = ast.parse(source), []
    autos = {a.targets[0].id for a in ast.walk(tree) if isinstance(a, ast.Assign) and isinstance(a.targets[0], ast.Name)
             and "transformers.Auto" in ast.unparse(a.value)}  # fmt: skip
    for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
        name, line = name_of(call.func), f"{module}:{call.lineno}"
        if name in RUNS_IT and (module, name) not in OWN:
            found.append(f"{line} {name}")
        if name.endswith("torch.load") and given(call, "weights_only") is not True:
            found.append(f"{line} torch.load without weights_only=True")
        if name in ("np.load", "numpy.load") and given(call, "allow_pickle") not in (..., False):
            found.append(f"{line} np.load with pickles")
        if given(call, "shell") not in (..., False) or given(call, "trust_remote_code") not in (..., False):
            found.append(f"{line} {name} with shell or trust_remote_code")
        owner = name.rpartition(".")[0]
        if name.endswith(".from_pretrained") and (owner.startswith(TRANSFORMERS) or owner in autos):
            if given(call, "trust_remote_code") is not False:
                found.append(f"{line} {name} without trust_remote_code=False")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: ".".join(p.relative_to(ROOT / "wmvla").with_suffix("").parts))
def test_module_runs_nothing_foreign(path):
    assert faults(path.read_text(encoding="utf-8"), ".".join(path.relative_to(ROOT / "wmvla").with_suffix("").parts)) == []


@pytest.mark.parametrize(
    "source",
    ["eval(x)", "exec(x)", "input()", "import torch; torch.load(f)", "torch.load(f, weights_only=False)", "pickle.loads(b)",
     "np.load(f, allow_pickle=True)", "subprocess.run(x, shell=True)", "AutoConfig.from_pretrained(s)",
     "transformers.AutoModel.from_pretrained(s, use_safetensors=True)", "AutoModel.from_pretrained(s, trust_remote_code=True)",
     "auto = transformers.AutoImageProcessor if k else transformers.AutoVideoProcessor\nauto.from_pretrained(s)"],
)  # fmt: skip
def test_a_planted_fault_is_found(source):
    assert faults(source)


@pytest.mark.parametrize(
    "source",
    ["model.eval()", "load(f).eval()", "torch.load(f, weights_only=True)", "np.load(f)",
     "AutoConfig.from_pretrained(s, trust_remote_code=False)",
     "PreTrainedConfig.from_pretrained(s)", "re.compile(x)"],
)  # fmt: skip
def test_what_runs_nothing_passes(source):
    assert not faults(source)
