# Every target sets up what it needs: a fresh clone with Python 3.11, make and git is enough.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo test lint types bench corpus frontend clean

help:
	@echo "make demo      watch a real training explode, treat it, and write a report (2 minutes)"
	@echo "make test      lint, types and all tests"
	@echo "make setup     the virtual environment .venv with pinned dependencies"
	@echo "make lint      ruff and pyright"
	@echo "make bench     what watching and clipping cost (10 minutes)"
	@echo "make corpus    judge the diagnosis on the fault corpus, where it lies beside the checkout"
	@echo "make frontend  rebuild the report's bundle (needs Node)"
	@echo "make clean     remove what these targets made"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

setup: $(READY)

demo: $(READY)
	@bash examples/demo.sh $(BIN)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

test: lint
	@bash tests/browser.sh
	$(BIN)/pytest -q

bench: $(READY)
	$(BIN)/python benchmarks/overhead.py

CORPUS ?= ../shared/corpus
corpus: $(READY)
	$(BIN)/python $(CORPUS)/score.py $(CORPUS)/public --tool $(CURDIR)/$(BIN)/gainstage --python $(CURDIR)/$(BIN)/python

frontend:
	cd frontend && npm ci --no-audit --no-fund && npm run build

clean:
	rm -rf .venv demo-out gainstage-runs frontend/node_modules
