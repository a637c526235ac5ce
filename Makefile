# Everything a fresh machine needs is made here: the environment, the tests, a first result.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := train=8,valid=4,test=8

IMAGES :=

.PHONY: demo gate test soak test-all docs benchmarks performance quality clean

demo: $(VENV)/installed
	$(BIN)/bench run --methods mias_sam,patchcore,intensity --weights embedded --results demo-results \
		--dataset phantom_brain_mri:$(DEMO) \
		--dataset phantom_liver_ct:$(DEMO) \
		--dataset phantom_retina_oct:$(DEMO)

# The methods must still do what they did: what may differ stands in the baseline, which bench baseline makes anew.
# One thread: threads that wait for each other on a busy machine take any time, and runtimes are compared.
gate: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/bench run --methods intensity,padim,mias_sam --no-controls --weights embedded --size 128 --device cpu --workers 1 \
		--dataset phantom_brain_mri:train=4,valid=3,test=8,size=128 --results gate-results
	$(BIN)/bench check latest --results gate-results --baseline results/baselines/phantoms.json

# A process a core; what is shared by the tests of a file is made once.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --durations 20

test: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	# pyright has one core and waits for no test, so it goes on beside them; what it says comes last.
	$(BIN)/pyright >$(VENV)/pyright.txt 2>&1 & types=$$!; \
	$(PYTEST) -m "not soak"; tests=$$?; \
	wait $$types; types=$$?; cat $(VENV)/pyright.txt; exit $$((tests | types))

soak: $(VENV)/installed
	$(PYTEST) -m soak
	$(BIN)/pytest benchmarks --benchmark-disable

test-all: test soak

# The site, in site/: a broken link or an unknown reference fails.
docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

benchmarks: $(VENV)/installed
	$(BIN)/pytest benchmarks --benchmark-only

# Each takes about an hour. IMAGES names a folder in BMAD's layout; without it, generated images are taken.
performance quality: $(VENV)/installed
	TQDM_DISABLE=1 $(BIN)/python -W ignore -m benchmarks.$@ $(foreach folder,$(IMAGES),--images $(folder))

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "Installing miasbench and its dependencies into $(VENV); this takes a few minutes."
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo-results gate-results site
