"""The benchmarks of spf_kernels; `python -m bench` runs them (see bench/README.md)."""
