# Two commands do everything: `make demo` transcribes samples/, `make test` runs the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
AUDIO ?= samples

.PHONY: demo test test-all slow lint types bench clean distclean

demo: $(VENV)/.installed
	$(BIN)/stt transcribe -f vtt samples

test: $(VENV)/.tests
	$(BIN)/python -m pytest

test-all: $(VENV)/.tests
	$(BIN)/python -m pytest -m 'slow or not slow'

slow: $(VENV)/.tests
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.tests
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/.tests
	$(BIN)/mypy --strict src

bench: $(VENV)/.evaluation
	$(BIN)/python scripts/evaluate.py $(AUDIO)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist

distclean:
	@printf 'Delete the models that were set up here (models/) as well? [y/N] ' && read answer && [ "$$answer" = y ]
	rm -rf models
	$(MAKE) clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[cpu]'
	@touch $@

$(VENV)/.tests: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --group test
	@touch $@

$(VENV)/.evaluation: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --group evaluate
	@touch $@
