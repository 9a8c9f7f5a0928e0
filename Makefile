# `make demo` and `make test` do all their own set-up; `make` alone lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup lab demo test test-all format lock docs clean
ARGS ?=

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make .venv from requirements.lock, check EGL and FFmpeg (every target does this first)
	@tools/setup.sh

lab: setup ## JupyterLab on this machine, opened at a start page (ARGS="--no-browser --port 8889")
	@.venv/bin/wmvla lab $(ARGS)

demo: setup ## the main job: record, train four arms and a control, evaluate, report (ARGS="--preset tiny" for a short one)
	@.venv/bin/wmvla demo $(ARGS)

test: setup ## ruff, clean and export checks, the notebooks' tests, pytest
	@tools/test.sh $(ARGS)

test-all: setup ## the slower suites besides `make test`: studies, trainings, simulators, runbooks, the installed wheels
	@tools/test.sh --all $(ARGS)

format: setup ## after editing notebooks: clean them, export wmvla/, remake README.md, let ruff repair the rest
	@.venv/bin/nbdev_clean && .venv/bin/nbdev_export && .venv/bin/python tools/readme.py
	@.venv/bin/ruff check -q --fix setup.py tools tests docs

show: setup ## run notebooks and store what they show (ARGS = notebooks or folders, e.g. "nbs/10_data"; all without)
	@.venv/bin/python tools/show.py $(ARGS)

lock: setup ## remake requirements.lock from settings.ini (ARGS="--upgrade" for newer versions)
	@tools/lock.sh $(ARGS)
	@tools/setup.sh

docs: setup ## the documentation site, in _docs/index.html (ARGS="--execute" runs the notebooks first, for their pictures)
	@.venv/bin/python tools/docs.py $(ARGS)

clean: ## delete what can be made again, but neither runs/ nor .venv
	@rm -rf _docs _proc _proc_executed jupyter_execute build dist *.egg-info .pytest_cache .ruff_cache
	@find wmvla lerobot_policy_world_modality nbs tests tools docs -name __pycache__ -prune -exec rm -rf {} +
