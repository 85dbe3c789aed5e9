# make demo      install into .venv and make a video with the weights in models/emoji
# make test      install and run the tests, but for those that need the trained weights or minutes
# make test-slow run those
# make training  install what the tests, the recipes and the benchmarks need
# make soak      damage, kills, full disks and long use, an hour; SCALE=0.1 makes it shorter
# make wheels    build the code and the weights as three wheels in dist/
# make lint      check style, imports and types
# make clean     remove .venv, caches and the demo; data and training runs stay

PYTHON ?= $(shell for python in python3.11 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
PROMPT ?= a rocket taking off
SCALE ?= 1
VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow training soak wheels lint clean

help:
	@sed -n 's/^# make/make/p' Makefile

demo: $(VENV)/.demo
	@$(BIN)/make-a-video generate "$(PROMPT)" -o demo.mp4 --seed 1
	@echo "The video is in $(CURDIR)/demo.mp4"

test: $(VENV)/.test
	@$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadgroup

test-slow: $(VENV)/.test
	@$(BIN)/python -m pytest -m slow

training: $(VENV)/.test
	@echo "Ready: $(BIN)/make-a-video data emoji data/emoji, then docs/training.md"

soak: $(VENV)/.test
	@$(BIN)/python benchmarks/soak.py --scale $(SCALE)

wheels: $(VENV)/.demo
	@rm -rf build packages/*/build
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation -w dist . ./packages/emoji-words ./packages/emoji
	@ls -l dist

lint: $(VENV)/.test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/mypy
	@$(BIN)/pyright

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache build dist packages/*/build packages/*/*.egg-info src/*.egg-info demo.mp4
	find src tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

# A stamp file says that an installation is complete; it is older than these files only when they have changed.
# setuptools comes first, so that the package itself is built by the pinned version and not by a downloaded one.
$(VENV)/.demo: pyproject.toml constraints.txt $(wildcard packages/*/pyproject.toml)
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it or name it, make PYTHON=..." >&2; exit 1; }
	@echo "Installing into $(VENV), once; this takes minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) -c constraints.txt setuptools
	@$(INSTALL) -c constraints.txt --no-build-isolation -e .
	@$(INSTALL) --no-deps --no-build-isolation ./packages/emoji-words ./packages/emoji
	@touch $@

$(VENV)/.test: $(VENV)/.demo requirements-no-deps.txt
	@$(INSTALL) --no-deps -r requirements-no-deps.txt
	@$(INSTALL) -c constraints.txt --no-build-isolation -e '.[benchmarks,clips,dev,data,evaluation,ray,training,web]'
	@touch $@
