# Two commands on a fresh machine: `make demo` and `make test`. Everything they need is installed here, into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TFLITE_VENV := .venv-tflite-runtime
DATA ?= $(EDGEQ_DATA)/esc10

.PHONY: demo test test-quick test-tflite-runtime system-tools lint models bench-lowering clean

demo: $(VENV)/.demo  ## environment, install, then the main job on a zoo model
	$(BIN)/edgeq export esc10-qtiny --onnx --tflite --int8 -o build/demo
	$(BIN)/edgeq verify build/demo
	$(BIN)/python tools/synthesise_clock.py build/clock.wav
	$(BIN)/edgeq classify build/demo build/clock.wav
	@echo; echo "next: . $(BIN)/activate; edgeq --help"

test: $(VENV)/.dev lint  ## style, types and every test
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered

test-quick: $(VENV)/.dev  ## what a change needs every few minutes
	$(BIN)/python -m pytest -q -m "not slow and not tensorflow"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# tflite-runtime 2.14 works only with numpy below 2 and clashes with TensorFlow: it has an environment of its own.
test-tflite-runtime: $(TFLITE_VENV)/.ready
	$(TFLITE_VENV)/bin/python -m pytest -q tests/test_tflite_runtime.py

# QEMU and Debian's compiler for ARM check the simulator; an OpenSSH server is the other machine of `bench --target ssh:`;
# a PulseAudio of one's own, behind PortAudio, is the microphone of `live`; Chromium opens the pages.
SYSTEM_TOOLS := qemu-system-arm gcc-arm-none-eabi gcc openssh-server openssh-client \
  libportaudio2 libasound2-plugins pulseaudio pulseaudio-utils chromium
system-tools:  ## what some tests check against, where Debian's packages can be installed; they skip without it
	@{ command -v qemu-system-arm && command -v arm-none-eabi-gcc && command -v gcc && test -x /usr/sbin/sshd && \
	  command -v ssh && command -v pulseaudio && command -v paplay && command -v chromium && ls /usr/lib/*/libportaudio.so.2 \
	  /usr/lib/*/alsa-lib/libasound_module_pcm_pulse.so; } > /dev/null || \
	  { apt-get update -q && apt-get install -q -y --no-install-recommends $(SYSTEM_TOOLS); } || \
	  echo "not installed, not all of: $(SYSTEM_TOOLS); what needs them is skipped" >&2

models: $(VENV)/.dev  ## the zoo again from its recipes: make models DATA=folder-of-esc10 (many hours)
	$(BIN)/python tools/cross_validate.py models/*/recipe.toml --data $(DATA) --jobs 2
	$(BIN)/python tools/build_zoo.py models/*/recipe.toml --data $(DATA)
	for recipe in models/*/recipe.toml; do \
	  $(BIN)/edgeq export $$(dirname $$recipe) --int8 -o $$(dirname $$recipe) || exit; done
	$(BIN)/python tools/write_cards.py --data $(DATA)

bench-lowering: $(VENV)/.bench  ## the papers' networks in five runtimes, on a quiet machine (about half an hour)
	$(BIN)/python benchmarks/lowering.py

clean:
	rm -rf build $(VENV) $(TFLITE_VENV)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "edgeq needs Python 3.11 or newer: '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Try: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[export]'
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev,tensorflow]'
	touch $@ $(VENV)/.demo

$(VENV)/.bench: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[bench]'
	touch $@

$(TFLITE_VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	  echo "tflite-runtime 2.14 has wheels up to Python 3.11 only: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(TFLITE_VENV)
	$(TFLITE_VENV)/bin/pip install -q --disable-pip-version-check -e '.[tflite-runtime]' pytest hypothesis
	touch $@
