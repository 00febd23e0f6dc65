# The commands of the project. `make demo` and `make test` work on a machine with Python >= 3.10 and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SANITIZED := build/sanitized

.PHONY: install demo test lint sanitize bench bench-quick clean

install: $(VENV)/installed

# A torch wheel kept on this machine (PIP_FIND_LINKS) comes before a download of several GB; without one, nothing happens.
$(VENV)/installed: pyproject.toml setup.py $(wildcard csrc/*)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import torch" 2>/dev/null || \
	  $(BIN)/pip install --quiet --no-index --no-deps "torch>=2.9" 2>/dev/null || true
	$(BIN)/pip install --quiet --editable ".[dev]"
	$(BIN)/python -m spf_kernels
	touch $@

demo: install
	$(BIN)/python python/demo.py

test: install
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy spf_kernels python/spf_data python/spf_net python/train.py python/demo.py bench setup.py
	PYTHONPATH=python $(BIN)/lint-imports

# csrc under AddressSanitizer and UndefinedBehaviorSanitizer, driven by numpy alone
sanitize: install
	SPF_SANITIZE=1 SPF_REQUIRE_NATIVE=1 $(BIN)/python setup.py --quiet build_ext \
	  --build-lib $(SANITIZED) --build-temp $(SANITIZED)/objects
	LD_PRELOAD="$$($${CXX:-g++} -print-file-name=libasan.so) $$($${CXX:-g++} -print-file-name=libstdc++.so)" \
	  ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
	  SPF_NATIVE_PATH=$$(ls $(SANITIZED)/spf_kernels/_native*.so) $(BIN)/python -m pytest tests/csrc/test_native_numpy.py

bench: install
	$(BIN)/python -m bench

bench-quick: install
	$(BIN)/python -m bench --quick

clean:
	rm -rf $(VENV) build dist *.egg-info spf_kernels/_native*.so spf_kernels/_build_failure.txt
