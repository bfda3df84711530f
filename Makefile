# Every target in one sentence; `make` alone lists them.
SHELL := /bin/bash
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# One thread a process and one process a core: the suite then scales with cores and times are steady.
export OMP_NUM_THREADS ?= 1
export ORT_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.PHONY: mini-figures ship image image-cuda helps browser docs cudnn-plans formats faults fuzz fuzz-guided soak sanitize guards help setup setup-dev demo test lint types floors unit interpreter aot test-slow gpu bench train-mini miniature miniature-training clean

help:                ## list the targets
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 16

$(VENV)/ready: setup.py pyproject.toml constraints.txt $(wildcard csrc/*.cpp csrc/include/v2f/*.h)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/ready-dev: $(VENV)/ready
	$(BIN)/pip install -q -c constraints.txt -e '.[parquet,rendered,onnx,tensorrt-rtx,gates,scale,align,docs,ui,dev]'
	touch $@

setup: $(VENV)/ready        ## make the virtual environment and install the engine into it

setup-dev: $(VENV)/ready-dev  ## install what tests, linters and the GPU-free kernel gates need as well

demo: $(VENV)/ready         ## generate 100 people x 10 images with the embedded model into out/demo
	$(BIN)/v2f generate --ids 100 --images 10 --out out/demo

test: setup-dev browser lint types floors unit interpreter aot  ## everything CI runs: linters, types, floors, tests, kernel gates

browser:             ## Chromium for the tests of the page, by apt, where root may; they are skipped without one
	@command -v chromium chromium-browser google-chrome >/dev/null || test "$$(id -u)" != 0 || ! command -v apt-get >/dev/null \
	  || (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null) \
	  || echo "no Chromium could be installed: the tests of the page are skipped"

lint: setup-dev             ## ruff: style and common mistakes; typos: spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/typos

types: setup-dev            ## mypy --strict over both packages
	$(BIN)/mypy

floors: setup-dev           ## import-linter: import arrows only point down
	PYTHONPATH=.:kernels $(BIN)/lint-imports

unit: setup-dev             ## the test suite, two processes wide
	$(BIN)/pytest -q -n 2 -m "not slow and not interpreter and not aot"

interpreter: setup-dev      ## Triton kernels under the interpreter, in a process of their own
	TRITON_INTERPRET=1 $(BIN)/pytest -q -n 2 -m interpreter tests/kernels

aot: setup-dev              ## compile every kernel to sm_90 and compare with the committed table
	$(BIN)/pytest -q -m "aot and not slow" tests/kernels

aot-all: setup-dev          ## the same for sm_80, sm_90 and sm_120, by two assemblers: about ten minutes, when a kernel changed
	$(BIN)/python -m bench.kernels.aot --check

test-slow: setup-dev        ## the tests that take minutes: kill -9 storms, planner simulations, long trainings
	$(BIN)/pytest -q -m slow

faults: setup-dev           ## SIGKILLs at each of 402 file operations and at 1,500 random moments, a storm of 200 on the queue, 20 of the real command; 10,500 power-loss states, 1,000 flipped bits
	$(BIN)/pytest -q -s -m slow tests/scale

fuzz: setup-dev             ## 100,000 damaged files of 16 kinds (`make test` has 20,000 of them)
	$(BIN)/pytest -q -s -m slow tests/hostile

formats: setup-dev          ## write the tables of docs/formats.md; damage 18,000 sets of every layout, and let the command inspect each layout
	PYTHONPATH=.:kernels $(BIN)/python tests/strangers/formats_table.py
	$(BIN)/pytest -q -s -m slow tests/strangers/test_damaged_layouts.py tests/strangers/test_every_layout.py

helps: setup-dev            ## write the helps of all commands as tests/test_help.py compares them
	PYTHONPATH=.:kernels $(BIN)/python tests/test_help.py

fuzz-guided: setup-dev      ## coverage-guided fuzzing of the readers for 10 minutes (installs atheris)
	$(BIN)/pip install -q atheris
	PYTHONPATH=.:kernels $(BIN)/python tests/hostile/guided.py -max_total_time=600

cudnn-plans: setup-dev      ## cuDNN's plans for an H200 that is not there; puts NVIDIA's libraries (1.9 GB) into out/cudnn; CUDNN=9.19.0.56
	$(BIN)/pip install -q --upgrade --no-deps --target out/cudnn nvidia-cudnn-frontend==1.32.0 cuda-bindings==13.0.* nvidia-cublas==13.* \
	  nvidia-cuda-nvrtc==13.* nvidia-cudnn-cu13==$(or $(CUDNN),9.28.1.4)
	PYTHONPATH=.:kernels:out/cudnn $(BIN)/pytest -q -s tests/kernels/test_cudnn_plans.py

soak: setup-dev             ## an hour of two workers making datasets: memory slope and open files
	PYTHONPATH=.:kernels $(BIN)/python tests/scale/soak.py $(or $(MINUTES),60)

gpu:                 ## on a GPU machine, eight minutes: every kernel against its oracle, then all that is measured; MINUTES=4
	$(PYTHON) -m bench.gpu --minutes $(or $(MINUTES),8)

contest:             ## on a GPU machine, five minutes, after `make gpu`: backends, chunks and launches by shape, into tuned/
	$(PYTHON) -m bench.gpu --minutes $(or $(MINUTES),5) --only choice --only profile --only launches --only search

sanitize:            ## on a GPU machine: memory, race, initialisation and barrier checks over small shapes
	set -e; for tool in memcheck racecheck initcheck synccheck; do \
	  PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool $$tool --error-exitcode 1 \
	    $(PYTHON) -m bench.kernels.ops --size tiny --device cuda --dtype float16 --rounds 1 --check-only; \
	  compute-sanitizer --tool $$tool --error-exitcode 1 $(PYTHON) -m bench.gpu.reject --check-only 3000; \
	done

guards: setup-dev           ## CPU paths against what they replaced, in CPU time: fails when a gain is lost
	$(BIN)/pytest -q bench/cpu/test_cpu_guards.py --benchmark-timer=time.process_time --benchmark-columns=min,median,rounds

bench: setup-dev            ## CPU benchmarks: generation, writers, rejection, ops
	$(BIN)/python -m bench.generation.compare --model base --device cpu
	$(BIN)/python -m bench.cpu.writers
	$(BIN)/python -m bench.cpu.reject --n 20000
	$(BIN)/python -m bench.kernels.ops

train-mini: setup-dev       ## retrain the embedded model from nothing: render people, recognisers, generator, pose model; six hours of two cores, or DEVICE=cuda MINUTES=6
	$(BIN)/python -m v2f_engine.train.mini $(if $(DEVICE),--device $(DEVICE)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(RENDERER),--renderer $(RENDERER))

miniature: setup-dev        ## the claim: recognisers trained on rendered and on generated people, tested on seven sets (about an hour of one idle core)
	$(BIN)/python -m bench.claims.recognisers

miniature-training: setup-dev  ## the published training from nothing: people, recogniser, LMDB, generator, evaluation
	$(BIN)/python -m bench.claims.miniature_training

mini-figures: setup-dev     ## after another edition of the embedded model: golden pictures, notebook, figures that pages quote, contact sheet; says what is left
	PYTHONPATH=.:kernels $(BIN)/python tests/test_golden_streams.py
	PYTHONPATH=.:kernels $(BIN)/python tests/docs/notebook.py
	$(BIN)/python -m bench.claims.edition --write

prove-mini: setup-dev       ## 10,000 identities of the embedded model proven on their faces; threshold from 1,000 rendered people
	$(BIN)/v2f render --ids 1000 --images 5 --seed 404 --out out/known
	$(BIN)/v2f ids prove 10000 --fmr 1e-6 --calibration out/known --out out/proven.safetensors \
	  --report bench/results/cpu/ids_proof_mini.json --plot bench/results/cpu/ids_proof_mini.png

docs: setup-dev             ## build the documentation site into out/site; read it by `python3 -m http.server -d out/site`
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q

ship: setup-dev             ## wheel and sdist into dist/, looked at, and the wheel tried in a fresh environment that installs all it needs
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(PYTHON) -m venv out/ship-tools
	out/ship-tools/bin/pip install -q twine check-wheel-contents cffconvert
	out/ship-tools/bin/twine check --strict dist/*
	out/ship-tools/bin/check-wheel-contents --toplevel v2f_engine,v2f_kernels dist/*.whl
	out/ship-tools/bin/cffconvert --validate -i CITATION.cff
	$(BIN)/pytest -q -m "slow or not slow" tests/test_packaging.py

# docker, podman, or `buildah`, whose word for it is the same
CONTAINERS ?= docker
RELEASE = $(shell sed -n 's/^VERSION = "\(.*\)"/\1/p' v2f_engine/version.py)

image:               ## a container image for a CPU, v2f-engine; CONTAINERS=podman
	$(CONTAINERS) build --build-arg VERSION=$(RELEASE) --build-arg TORCH_INDEX=$(TORCH_INDEX) -t v2f-engine:$(RELEASE) -t v2f-engine .

image-cuda:          ## a container image for an NVIDIA card, v2f-engine:cuda
	$(CONTAINERS) build --build-arg VERSION=$(RELEASE) -f Dockerfile.cuda -t v2f-engine:cuda .

clean:               ## remove what building and testing left behind
	rm -rf build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks out
