#!/usr/bin/env bash
# The GPU backend on this machine: build, tests, the card's own rates, benchmarks against every peer; one command, below
# nine minutes, nothing is downloaded. Needs an NVIDIA GPU, torch and triton. See "On a GPU" in bench/README.md.
#   bash bench/gpu.sh                    results in bench/results/<card>/, and in $OUT where that is set
#   SPF_GPU_SMOKE=1 bash bench/gpu.sh    a rehearsal on a CPU: Triton's interpreter, tiny sizes; measures nothing
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

SMOKE="${SPF_GPU_SMOKE:-0}"
if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3
  if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
SCRATCH=.benchmarks/gpu
if [ "$SMOKE" = 1 ]; then
  SCRATCH=.benchmarks/gpu-smoke
  export TRITON_INTERPRET=1
fi
rm -rf "$SCRATCH"
mkdir -p "$SCRATCH"
STAGES="$SCRATCH/stages.tsv"
LOG="$SCRATCH/log.txt"
: >"$STAGES"
FAILED=0
# seconds since the start at which the measuring has to have ended; the report takes the rest of the nine minutes
MEASURED_BY=505

verdict() { # stage, verdict, seconds
  printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$STAGES"
  echo "== $1: $2 ($3 s)"
}

left_out() { # stage, why
  verdict "$1" "left out: $2" 0
}

stage() { # name, limit in seconds, command
  local name="$1" limit="$2" start="$SECONDS" first status
  shift 2
  echo "== $name, at most $limit s; follow it in $LOG"
  echo "== $name" >>"$LOG"
  first=$(wc -l <"$LOG")
  # to a file, not through a pipe: a process that outlives its stage would keep the pipe open
  timeout --kill-after=5 "$limit" "$@" >>"$LOG" 2>&1
  status=$?
  tail -n +$((first + 1)) "$LOG"
  if [ "$status" = 0 ]; then
    verdict "$name" ok $((SECONDS - start))
    return
  fi
  FAILED=1
  # 124: timeout's own; 137: killed, which timeout does where its first signal was not enough
  if [ "$status" = 124 ] || [ "$status" = 137 ]; then
    verdict "$name" "STOPPED at its limit of $limit s" $((SECONDS - start))
  else
    verdict "$name" "FAILED (exit $status)" $((SECONDS - start))
  fi
}

has() { # every module importable
  "$PYTHON" - "$@" <<'PY' 2>/dev/null
import importlib.util
import sys

sys.exit(any(importlib.util.find_spec(name) is None for name in sys.argv[1:]))
PY
}

build() {
  if [ "$SMOKE" = 1 ]; then
    left_out build "a rehearsal"
  elif ! has setuptools pybind11 ninja; then
    left_out build "setuptools, pybind11 and ninja are not all installed; the CPU kernels are not needed here"
  elif [ -z "${CXX:-}" ] && ! command -v g++ clang++ c++ >/dev/null; then
    left_out build "no C++ compiler; the CPU kernels are not needed here"
  else
    stage build 60 env SPF_REQUIRE_NATIVE=1 "$PYTHON" setup.py --quiet build_ext --inplace
  fi
}

tests() {
  local parallel=()
  if [ "$SMOKE" = 1 ]; then
    left_out tests "a rehearsal; \`make test\` runs them interpreted"
  elif ! has pytest hypothesis; then
    left_out tests "pytest and hypothesis are not both installed"
  else
    if has xdist; then parallel=(-n 8); fi
    stage tests 110 env SPF_TEST_BACKEND=triton SPF_TEST_DEVICE=cuda \
      "$PYTHON" -m pytest -q --maxfail=20 "${parallel[@]}" tests/spf_kernels
  fi
}

sanitizer() { # tool
  if [ "$SMOKE" = 1 ]; then
    left_out "$1" "a rehearsal"
  elif ! command -v compute-sanitizer >/dev/null; then
    left_out "$1" "compute-sanitizer is not installed"
  else
    # each tensor in an allocation of its own, so that a step beyond its end is seen
    stage "$1" 35 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 \
      compute-sanitizer --tool "$1" --error-exitcode 9 "$PYTHON" -m bench.gpu.check --smallest
  fi
}

build
stage check 80 "$PYTHON" -m bench.gpu.check
tests
sanitizer memcheck
sanitizer racecheck
# what it found no time for is a row in the table, not a failure
FAILED_BEFORE="$FAILED"
stage "torch.compile" 90 "$PYTHON" -m bench.gpu.compile_ahead "$SCRATCH"
FAILED="$FAILED_BEFORE"
LIMIT=$((MEASURED_BY - SECONDS))
stage measure "$LIMIT" "$PYTHON" -m bench.gpu.measure "$SCRATCH" --seconds $((LIMIT - 25))

if ! timeout --kill-after=5 25 "$PYTHON" -m bench.gpu.report "$SCRATCH"; then
  FAILED=1
  cat "$STAGES"
fi
echo "all of it took $SECONDS s; exit status $FAILED"
if [ -n "${OUT:-}" ] && [ -f "$SCRATCH/folder.txt" ]; then
  cp "$(cat "$SCRATCH/folder.txt")"/* "$LOG" "$OUT"/
fi
exit "$FAILED"
