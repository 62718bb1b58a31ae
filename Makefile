# Every target sets up what it needs: a fresh clone with Python 3.11, make and git is enough.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo test lint browser frontend schemas bench distributed corpus corpus-generated tables rooms docs clean

help:
	@echo "make demo      watch a real training explode, and treat it (2 minutes)"
	@echo "make test      lint, types and all tests"
	@echo "make setup     the virtual environment .venv with pinned dependencies"
	@echo "make lint      ruff and pyright"
	@echo "make bench     what watching and clipping cost (5 minutes)"
	@echo "make distributed  every way torch.distributed trains, bare and watched (some minutes)"
	@echo "make corpus    judge the diagnosis on the fault corpus beside the checkout (CASES=benchmarks/scripts: other scripts)"
	@echo "make corpus-generated  rates on 304 generated trainings (6 minutes; SPLIT=dev to tune on)"
	@echo "make frontend  build the report's front end anew (needs Node)"
	@echo "make tables    the tables of the docs that follow from the code"
	@echo "make rooms     the tables and drawing in docs/architecture.md, after a change of who imports whom"
	@echo "make schemas   write the JSON Schemas and the front end's types anew from the facts"
	@echo "make docs      the documentation site, in site/ (needs no network once set up)"
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
	$(BIN)/pyright --project .

test: lint browser
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2

# The report's tests need a browser. Where it cannot be installed they say so, and CI fails.
browser:
	@{ command -v chromium && command -v chromedriver; } >/dev/null || \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y chromium chromium-driver; } >/dev/null 2>&1 || \
	  echo "no chromium: the tests of the report in a browser will be skipped"

# The built bundle is in the repository; only who changes frontend/ needs Node.
frontend:
	cd frontend && npm ci --no-audit --no-fund && npm run build

# The tables and the drawing of the rooms in docs/architecture.md, from tests/test_architecture.py.
rooms: $(READY)
	$(BIN)/python tools/draw_rooms.py

schemas: $(READY)
	PYTHONPATH=src $(BIN)/python tools/schemas.py

bench: $(READY)
	$(BIN)/python benchmarks/overhead.py

# Every way torch.distributed trains, bare and watched, on two processes: some minutes.
distributed: $(READY)
	PYTHONPATH=src $(BIN)/python benchmarks/distributed.py

CORPUS ?= ../shared/corpus
CASES ?= $(CORPUS)/public
corpus: $(READY)
	$(BIN)/python $(CORPUS)/score.py $(CASES) --tool $(CURDIR)/$(BIN)/gainstage --python $(CURDIR)/$(BIN)/python

SPLIT ?= test
corpus-generated: $(READY)
	PYTHONPATH=src $(BIN)/python -m benchmarks.corpus --split $(SPLIT)

# Tables of the docs that follow from registries; a test compares.
tables: $(READY)
	PYTHONPATH=src $(BIN)/python tools/doc_tables.py

docs: $(READY)
	$(BIN)/zensical build --strict
	@echo "open site/index.html"

clean:
	rm -rf .venv .cache site demo-out gainstage-runs
