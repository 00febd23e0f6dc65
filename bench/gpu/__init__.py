"""The benchmarks of the GPU backend; `bash bench/gpu.sh` runs them (see "On a GPU" in bench/README.md)."""
