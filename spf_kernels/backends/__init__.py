"""The implementations of the kernels. Each module offers the functions of `reference` with the same arguments."""
