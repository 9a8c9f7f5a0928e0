#!/usr/bin/env bash
# The checks of the project, pytest last.
#   tools/test.sh [STAGE...]        what runs before every push: all of these stages, or those named
#   tools/test.sh --all [STAGE...]  the slower suites besides: whole studies and trainings, long lessons in simulators, runbooks, installed wheels
# Works in copies under a temporary folder, so the working tree stays as it is.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/.venv/bin:$PATH" VIRTUAL_ENV="$PWD/.venv" # whatever environment the shell had: IPython imports from VIRTUAL_ENV too
export HF_HUB_OFFLINE=1 # nothing here may download weights or data
export OMP_WAIT_POLICY=PASSIVE # as many tests as cores run side by side: a thread that waits for others must not keep a core busy
stages="ruff clean export readme notebooks pytest"
target="make test"
if [ "${1:-}" = --all ]; then
    stages="types heavy lessons slow weekly" target="make test-all"
    shift
fi
for name in "$@"; do
    [[ " $stages " == *" $name "* ]] || { echo "test.sh: there is no stage '$name'; there are: $stages" >&2; exit 2; }
done
copies=$(mktemp -d)
trap 'rm -rf "$copies"' EXIT
export WMVLA_SHARED=$copies/shared # where lessons share their recordings, see wmvla.demos.shared
failed=()

# stage NAME COMMAND: run it unless other stages were asked for; note the seconds and whether it failed.
stage() {
    local name=$1 start=$SECONDS verdict=ok
    shift
    [[ " $wanted " == *" $name "* ]] || return 0
    printf '== %s\n' "$name"
    "$@" || { verdict=FAILED; failed+=("$name"); }
    # pytest's own closing line says how it went and stays the last one
    [ "$1" = pytest ] || printf -- '-- %s: %s, %s s\n' "$name" "$verdict" $((SECONDS - start))
}

# A copy of the notebooks and settings, without checkpoints, under $copies/NAME.
copy() {
    mkdir -p "$copies/$1" && cp settings.ini README.md "$copies/$1" && cp -r nbs "$copies/$1" &&
        find "$copies/$1" -name .ipynb_checkpoints -prune -exec rm -rf {} +
}

clean() {
    copy clean && (cd "$copies/clean" && nbdev_clean) &&
        diff -rq -x .ipynb_checkpoints -x .last_checked nbs "$copies/clean/nbs" ||
        { echo "These notebooks carry metadata that nbdev_clean removes: run 'make format'."; return 1; }
}

export_in_sync() {
    copy export && mkdir "$copies/export/wmvla" && cp wmvla/__init__.py "$copies/export/wmvla" &&
        (cd "$copies/export" && nbdev_export) && diff -r -x __pycache__ -x '*.pyc' -x static wmvla "$copies/export/wmvla" ||
        { echo "wmvla/ is not what the notebooks export (< is the tree): run 'make format'."; return 1; }
}

readme() { python tools/readme.py --check; }

# one thread a notebook, because as many notebooks as cores run side by side; half an hour is for one that waits for ever
lessons() { OMP_NUM_THREADS=1 timeout 1800 nbdev_test --n_workers 2 --timing "$@"; }
# whole studies and trainings in their tiny sizes, LeRobot's training, and every skill of LIBERO's teacher
studies='agreement|calibration|calibration_worlds|closed_loop|experts|path|smolvla_path|phases|representations|sequential|statistics|teachers|traces|smolvla_world|smolvla_arms|lab|latents'
long="^($studies|03_skills|04_calibration|07_film|07_what_if|07a_imagined|07b_latent_path|05_rollout_dataset|06a_asked|08a_inspected|10_lerobot_train|10_path|11_forks)[.]"
# whole studies again, a minute or more each even at their tiny sizes: `tools/test.sh --all weekly` alone runs them
weekly='^(answer|calibration_worlds|representations|smolvla_path)[.]'
# what `make test-all` runs whole, with WMVLA_SLOW, is left to it
simulated='libero|libero_experts|record|replay|closed_loop|suites|initial_states'
notebooks() { lessons --skip_file_re "^[_.]|$long|$weekly|^[0-9]+_($simulated)[.]"; }
heavy() { lessons --file_re "$long" --skip_file_re "$weekly"; }
weekly() { lessons --file_re "$weekly"; }

# lessons that take minutes ask for WMVLA_SLOW: the comparison with LeRobot's own LIBERO, a round trip through a recording of it, ...
slow_lessons() {
    WMVLA_SLOW=1 lessons --file_re "^[0-9]+_($simulated|sensing|success_rates|workers|catalogue|machine)[.]"
}

wanted=${*:-${stages% weekly}}
stage ruff ruff check .
stage clean clean
stage export export_in_sync
stage readme readme
stage notebooks notebooks
stage pytest pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"
stage types pyright --level error
stage heavy heavy
stage lessons slow_lessons
stage weekly weekly
stage slow pytest -n 2 --dist loadfile --no-loadscope-reorder -m slow

if [ ${#failed[@]} -gt 0 ]; then
    printf '%s: failing stages: %s\n' "$target" "${failed[*]}" >&2
    exit 1
fi
