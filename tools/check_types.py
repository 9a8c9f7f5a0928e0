"""Pyright over `wmvla/` in basic mode (settings: pyproject.toml): no kind of error may become more frequent.

The package is not clean yet: `tools/types.json` holds what was found when the check began. `--update` lowers its numbers after
repairs, and never raises one.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
KNOWN = ROOT / "tools/types.json"


def counted(report: dict) -> Counter[str]:
    """Errors by rule in what `pyright --outputjson` prints."""
    return Counter(found.get("rule", "syntax") for found in report["generalDiagnostics"] if found["severity"] == "error")


def excess(found: Counter[str], known: dict[str, int]) -> list[str]:
    """A sentence for every rule that is broken more often than it was."""
    return [f"{rule}: {n} errors, {known.get(rule, 0)} are known" for rule, n in sorted(found.items()) if n > known.get(rule, 0)]


def lowered(found: Counter[str], known: dict[str, int]) -> dict[str, int]:
    """`known` after repairs."""
    return {rule: min(n, found[rule]) for rule, n in sorted(known.items()) if found[rule]}


def main(update: bool) -> int:
    """0 where nothing got worse; else the new errors of the rules that did are listed."""
    done = subprocess.run(["pyright", "--outputjson"], cwd=ROOT, capture_output=True, text=True)
    if not done.stdout.strip(): sys.exit(f"pyright printed nothing: {done.stderr[-500:]}")
    report, known = json.loads(done.stdout), json.loads(KNOWN.read_text(encoding="utf-8"))
    found = counted(report)
    worse = excess(found, known)
    rules = {sentence.partition(":")[0] for sentence in worse}
    for error in report["generalDiagnostics"]:
        if error["severity"] == "error" and error.get("rule", "syntax") in rules:
            path, line = Path(error["file"]).relative_to(ROOT), error["range"]["start"]["line"] + 1
            print(f"{path}:{line}: {error.get('rule', 'syntax')}: {error['message'].splitlines()[0]}")
    if update and not worse: KNOWN.write_text(json.dumps(lowered(found, known), indent=1) + "\n", encoding="utf-8")
    files = report["summary"]["filesAnalyzed"]
    print(f"{sum(found.values())} errors in {files} files; {sum(known.values())} are known", *worse, sep="\n")
    return int(bool(worse))


if __name__ == "__main__":
    sys.exit(main("--update" in sys.argv[1:]))
