# The commands of the project. `make demo` and `make test` work on a machine with Python >= 3.10 and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SANITIZED := build/sanitized

.PHONY: install demo test lint sanitize labels-check reproduce study bench bench-quick gpu-smoke clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml setup.py $(wildcard csrc/*)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[dev]"
	$(BIN)/python -m spf_kernels
	touch $@

demo: install
	$(BIN)/python python/demo.py

# The Triton kernels are tested on the CPU, interpreted: in a process of its own, since Triton looks at the variable when
# it is imported, and beside the other tests, to be done sooner. Triton has packages for Linux on x86_64, and there it
# must be installed.
test: install
	@mkdir -p build; interpreted=build/interpreted.log; \
	if [ "$$(uname -sm)" = "Linux x86_64" ] || $(BIN)/python -c "import triton" 2>/dev/null; then \
	  TRITON_INTERPRET=1 SPF_TEST_BACKEND=triton OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/spf_kernels \
	    >$$interpreted 2>&1 & \
	else echo "Triton kernels not tested: triton is not installed ($$(uname -sm))" >$$interpreted & fi; \
	set -x; $(BIN)/python -m pytest || { kill $$!; exit 1; }; \
	wait $$! && tail -n 5 $$interpreted || { cat $$interpreted; exit 1; }

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy spf_kernels python/spf_data python/spf_net python/*.py bench setup.py
	PYTHONPATH=python $(BIN)/lint-imports

# csrc under AddressSanitizer and UndefinedBehaviorSanitizer, driven by numpy alone
sanitize: install
	SPF_SANITIZE=1 SPF_REQUIRE_NATIVE=1 $(BIN)/python setup.py --quiet build_ext \
	  --build-lib $(SANITIZED) --build-temp $(SANITIZED)/objects
	LD_PRELOAD="$$($${CXX:-g++} -print-file-name=libasan.so) $$($${CXX:-g++} -print-file-name=libstdc++.so)" \
	  ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
	  SPF_NATIVE_PATH=$$(ls $(SANITIZED)/spf_kernels/_native*.so) $(BIN)/python -m pytest tests/csrc/test_native_numpy.py

# the report labeller against the human codes of all Open-i reports, which the package torchxrayvision brings
labels-check: install
	$(BIN)/python python/labels_check.py

# the paper's tables and figures on the phantom, and on real radiographs where they are
CXR_ZONES ?= ../shared/data/cxr-zones
reproduce: install
	$(BIN)/python python/reproduce.py --workers 2 $(if $(wildcard $(CXR_ZONES)),--cxr-zones $(CXR_ZONES))

# where SPF wins: two processes of one thread, 75 minutes; a stopped one goes on
study: install
	OMP_NUM_THREADS=1 $(BIN)/python python/study.py --only phantom & \
	  OMP_NUM_THREADS=1 $(BIN)/python python/study.py --only cxr-zones; wait

bench: install
	$(BIN)/python -m bench

bench-quick: install
	$(BIN)/python -m bench --quick

# bench/gpu.sh rehearsed on the CPU
gpu-smoke: install
	SPF_GPU_SMOKE=1 PYTHON=$(BIN)/python bash bench/gpu.sh

clean:
	rm -rf $(VENV) build dist *.egg-info spf_kernels/_native*.so spf_kernels/_build_failure.txt
