"""The bookkeeping of tools/check_types.py; pyright itself is run by `make test-all`."""

import importlib.util
import json
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("check_types", ROOT / "tools/check_types.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_only_errors_count(tool):
    found = [{"severity": "error", "rule": "a"}, {"severity": "warning", "rule": "a"}, {"severity": "error"}]
    assert tool.counted({"generalDiagnostics": found}) == {"a": 1, "syntax": 1}


def test_more_of_a_kind_is_refused(tool):
    assert tool.excess(Counter(a=3, b=1, c=2), {"a": 2, "c": 2}) == ["a: 3 errors, 2 are known", "b: 1 errors, 0 are known"]


def test_repairs_lower_what_is_known_and_nothing_raises_it(tool):
    assert tool.lowered(Counter(a=1, c=5), {"a": 2, "b": 4, "c": 2}) == {"a": 1, "c": 2}


def test_what_is_known_is_a_table_of_rules():
    known = json.loads((ROOT / "tools/types.json").read_text())
    assert known and all(rule.startswith("report") and n > 0 for rule, n in known.items())
