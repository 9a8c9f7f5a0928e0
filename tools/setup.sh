#!/usr/bin/env bash
# Makes .venv from requirements.lock and sees to the system libraries; every target of the Makefile calls it first.
#   tools/setup.sh           set up what is missing; returns at once when nothing is
#   tools/setup.sh --check   say what was found and what is missing, change nothing (exit 2 when something is missing)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$PATH:/usr/sbin:/sbin" # ldconfig is not on every user's PATH

say() { printf 'setup: %s\n' "$*" >&2; }
stop() { say "$*"; exit 2; }

# ---- system libraries: EGL renders the simulator off-screen, FFmpeg's libavcodec decodes the recorded videos

libraries() {
    ldconfig -p 2>/dev/null | grep -oE '\blib(EGL|EGL_mesa|EGL_nvidia|avcodec)\.so\.[0-9]+' | sort -u || true
}

missing_packages() {
    local found
    found=$(libraries)
    if ! grep -q '^libEGL\.so' <<<"$found" || ! grep -qE '^libEGL_(mesa|nvidia)\.so' <<<"$found"; then
        printf 'libegl1 libgl1-mesa-dri '
    fi
    grep -q '^libavcodec\.so' <<<"$found" || printf 'ffmpeg '
}

APT="apt-get install -y --no-install-recommends"

# The one command that installs the given packages, for a person to copy.
how_to_install() {
    if ! type -P apt-get >/dev/null; then
        echo "install what Debian calls: $*"
    elif [ "$(id -u)" = 0 ]; then
        echo "apt-get update && $APT $*"
    else
        echo "sudo apt-get update && sudo $APT $*"
    fi
}

install_packages() {
    if [ "$(id -u)" != 0 ] || ! type -P apt-get >/dev/null; then
        stop "system packages are missing. Run this, then the same command again:
  $(how_to_install "$@")"
    fi
    say "installing system packages: $*"
    # shellcheck disable=SC2086
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive $APT -q "$@"; } >&2 ||
        stop "apt-get failed. Repair it, or run: $(how_to_install "$@")"
}

# ---- python and uv

# Prints the real path of a python that the lock file serves (3.12 or 3.13); fails for any other.
usable_python() {
    "$1" -c 'import sys; sys.version_info[:2] in ((3, 12), (3, 13)) or sys.exit(1); print(sys.executable)' 2>/dev/null
}

find_python() {
    local name path
    for name in python3.12 python3.13 python3 python; do
        while read -r path; do # a pyenv shim may stand first on PATH and refuse to run: try them all
            usable_python "$path" && return
        done < <(type -aP "$name" || true)
    done
    for path in "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.{12,13}*/bin/python "${HOME:-}"/.pyenv/versions/3.{12,13}*/bin/python; do
        [ -x "$path" ] && usable_python "$path" && return
    done
    return 1
}

find_uv() { type -P uv || { [ -x .uv/bin/uv ] && echo "$PWD/.uv/bin/uv"; }; }

# uv from PyPI into a small environment of its own (.uv), with whatever python the machine has.
make_uv() {
    local python
    python=$(find_python || type -P python3) || { install_packages python3-venv && python=$(type -P python3); }
    say "fetching uv"
    rm -rf .uv
    if ! "$python" -m venv .uv >/dev/null 2>&1; then # Debian's python3 comes without venv
        rm -rf .uv
        install_packages python3-venv
        python3 -m venv .uv
    fi
    .uv/bin/python -m pip install -q uv >&2 || stop "pip could not fetch uv. Check the network, or install uv yourself (https://docs.astral.sh/uv)."
}

fetch_python() {
    say "fetching Python 3.12"
    "$1" python install 3.12 >&2 ||
        stop "uv could not fetch Python 3.12. Check the network, or put python3.12 or python3.13 on PATH (or among pyenv's versions)."
    echo 3.12
}

# ---- the environment

make_environment() {
    local uv=$1 python=$2
    if [ -e .venv/.installing ] || ! usable_python .venv/bin/python >/dev/null; then
        rm -rf .venv # absent, of another python, or left half made by an interrupted call
        "$uv" venv -q --python "$python" .venv
    fi
    touch .venv/.installing
    say "installing requirements.lock into .venv (about 8 GB of packages; minutes when they must be fetched)"
    "$uv" pip sync --python .venv/bin/python requirements.lock
    "$uv" pip install -q --python .venv/bin/python --no-deps --no-build-isolation -e . -e ./lerobot_policy_world_modality
    rm .venv/.installing
}

# Where Python may not write bytecode, every process would compile torch again (five seconds of it): what is imported is compiled
# once here, a fifth of all that is installed, by two processes whose imports have little in common.
WITH_TORCH="wmvla lerobot.datasets.lerobot_dataset lerobot.policies.factory lerobot.scripts.lerobot_train lerobot.scripts.lerobot_eval
transformers.models.smolvlm.modeling_smolvlm transformers.models.auto.modeling_auto"
WITHOUT="metaworld robosuite plotly.io matplotlib.pyplot pandas sklearn.decomposition statsmodels.api papermill nbconvert ipykernel.kernelapp
jupyterlab.labapp nbdev.test nbdev.export execnb.shell pytest beartype playwright.sync_api sphinx.cmd.build"

# Imports modules by name, so that their bytecode is written; of `wmvla` all its rooms.
compile_imports() {
    env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -W ignore -c '
import contextlib, importlib, io, pkgutil, sys
names = sys.argv[1:]
if "wmvla" in names:
    import wmvla
    names += [m.name for m in pkgutil.walk_packages(wmvla.__path__, "wmvla.")]
odd = []
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    for name in names:
        try: importlib.import_module(name)
        except Exception as error: odd.append(f"{name}: {error}")
if odd: sys.exit("\n".join(odd))
' "$@" || say "these could not be imported, so they were not compiled beforehand"
}

compile_what_is_used() {
    [ -n "${PYTHONDONTWRITEBYTECODE:-}" ] || return 0
    # shellcheck disable=SC2086
    compile_imports $WITHOUT &
    # shellcheck disable=SC2086
    compile_imports $WITH_TORCH
    wait
}

# The libraries can be there and still not work together: really render and really load the decoder.
check_for_real() {
    local packages
    packages=$(.venv/bin/python tools/check_system.py) && return
    install_packages $packages
    packages=$(.venv/bin/python tools/check_system.py) || stop "this machine still cannot render or decode video; the reason stands above."
}

# Sixteen suites more of LIBERO, whose package cannot be installed beside LIBERO's: only its data is fetched. Nothing else needs them.
fetch_libero_pro() {
    PATH="$PATH:$(dirname "$1")" .venv/bin/wmvla libero-pro >/dev/null || say "going on without LIBERO-PRO's suites"
}

FILES="requirements.lock setup.py settings.ini lerobot_policy_world_modality/pyproject.toml tools/setup.sh tools/check_system.py"

# shellcheck disable=SC2086
state() { { cat $FILES; libraries; pwd; } | sha256sum; }

is_ready() { [ -e .venv/.ready ] && [ "$(cat .venv/.ready)" = "$(state)" ]; }

check() {
    local missing
    missing=$(missing_packages)
    say "python: $(find_python || echo "none of 3.12 or 3.13; uv will fetch 3.12")"
    say "uv: $(find_uv || echo "none; it will be fetched from PyPI")"
    say "libraries: $(libraries | tr '\n' ' ')"
    say ".venv: $(is_ready && echo ready || echo "to be made or updated by 'make setup'")"
    [ -z "$missing" ] || stop "missing system packages. Run: $(how_to_install $missing)"
}

main() {
    local missing uv python
    is_ready && return
    exec 9>.setup.lock # one set-up at a time
    if type -P flock >/dev/null; then flock 9; fi
    is_ready && return
    missing=$(missing_packages)
    [ -z "$missing" ] || install_packages $missing
    find_uv >/dev/null || make_uv
    uv=$(find_uv)
    python=$(find_python) || python=$(fetch_python "$uv")
    make_environment "$uv" "$python"
    compile_what_is_used &
    check_for_real
    fetch_libero_pro "$uv"
    wait
    state >.venv/.ready
    say "ready ($(.venv/bin/python --version), $PWD/.venv)"
}

case "${1:-}" in
    "") main ;;
    --check) check ;;
    *) stop "unknown argument '$1'; the only one is --check" ;;
esac
