#!/usr/bin/env bash
# Pins every dependency of settings.ini (read by setup.py) into requirements.lock. Arguments go to uv, e.g. --upgrade.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
uv=$(type -P uv || echo .uv/bin/uv)
# Left out: both egl-probes need cmake and a compiler and nothing here imports them; opencv-python needs the libraries of a
# desktop and overwrites the files of opencv-python-headless, which stays.
"$uv" pip compile -q setup.py --extra dev --python .venv/bin/python --python-version 3.12 \
    --no-emit-index-url --no-emit-find-links --no-emit-package egl-probe --no-emit-package hf-egl-probe --no-emit-package opencv-python \
    --custom-compile-command "make lock" --output-file requirements.lock "$@"
