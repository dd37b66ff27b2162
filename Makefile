# Two commands do everything: `make demo` transcribes samples/, `make test` runs the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
AUDIO ?= samples
MADE := $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist

.PHONY: demo test coverage test-all slow browser lint types bench docs pictures clean distclean

demo: $(VENV)/.installed
	$(BIN)/stt transcribe -f vtt samples
	@echo 'To try other precisions of it: $(BIN)/stt setup starter --precision fp16,int8'
	@echo 'and then: $(BIN)/stt transcribe -p int8 samples (or $(BIN)/stt config set precision int8)'

test: $(VENV)/.tests
	$(BIN)/python -m pytest -n auto --dist worksteal

coverage: $(VENV)/.tests
	$(BIN)/python -m pytest -n auto --dist worksteal --cov=stt --cov-branch --cov-report=term:skip-covered

test-all: test slow browser

browser: $(VENV)/.browser
	$(BIN)/python -m pytest -m 'slow and browser'

slow: $(VENV)/.tests
	$(BIN)/python -m pytest -m 'slow and not browser'

lint: $(VENV)/.tests
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/.tests
	$(BIN)/mypy --strict src

bench: $(VENV)/.evaluation
	$(BIN)/python scripts/evaluate.py $(AUDIO)

docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --group docs
	$(BIN)/griffe2md stt | sed -E 's/\[([^][]*)\]\(#[^)]*\)/\1/g' > docs/api.md # no links to types

pictures: $(VENV)/.browser
	$(BIN)/python -m pip install --quiet --group docs
	$(BIN)/python scripts/make_pictures.py

clean:
	rm -rf $(MADE)

distclean:
	@printf 'Delete the models that were set up here (models/) as well? [y/N] '; read answer; \
	if [ "$$answer" = y ]; then rm -rf models $(MADE); \
	else echo 'nothing is deleted; to keep the models: make clean'; fi

$(VENV)/.installed: pyproject.toml
	@echo '[1/4] making a virtual environment in $(VENV)'
	@$(PYTHON) -m venv $(VENV)
	@echo '[2/4] bringing its pip up to date'
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@echo '[3/4] fetching and installing what stt needs, once: some 180 MB, a minute or two'
	@$(BIN)/python -m pip install --editable '.[cpu]'
	@echo '[4/4] installed; stt is $(BIN)/stt'
	@touch $@

$(VENV)/.tests: $(VENV)/.installed
	@echo 'fetching and installing what the tests need, once'
	@$(BIN)/python -m pip install --group test
	@touch $@

$(VENV)/.browser: $(VENV)/.tests
	@command -v chromium >/dev/null || echo 'Chromium is missing: apt install chromium (as root)'
	@command -v npm >/dev/null || echo 'npm is missing, so axe-core and the client ai will be: apt install npm (as root)'
	@$(BIN)/python -m pip install --quiet --group browser
	@if command -v npm >/dev/null; then \
	  npm install --silent --no-fund --prefix $(VENV)/npm axe-core@4 ai@7 @ai-sdk/openai@3; fi
	@touch $@

$(VENV)/.evaluation: $(VENV)/.installed
	@echo 'fetching and installing what the comparison needs, once'
	@$(BIN)/python -m pip install --group evaluate
	@touch $@
