"""The extension module built from csrc/bindings.cpp. Addresses are integers, strides count elements."""

import numpy as np
import numpy.typing as npt

_Sizes = tuple[int, int, int, int]
_Maps = tuple[int, int, int, int]
_Codes = tuple[int, int, int, int, int]
_Layer = tuple[int, int, int, int]
_State = tuple[int, int, int, int, int]

compiler: str
openmp: bool
version: str

def encode(sizes: _Sizes, maps: _Maps, layer: _Layer, out: int, threads: int) -> None: ...
def decode(sizes: _Sizes, codes: _Codes, layer: _Layer, out: int, threads: int) -> None: ...
def outer(sizes: _Sizes, left: _Codes, right: _Maps, out: int, out_dtype: int, threads: int) -> None: ...
def reconstruct(
    sizes: _Sizes,
    codes: _Codes,
    maps: _Maps,
    layer: _Layer,
    loss: int,
    error: int,
    residual: int,
    codes_gradient: int,
    threads: int,
) -> None: ...
def nadam_factored(
    sizes: _Sizes,
    state: _State,
    left: _Codes,
    right: _Maps,
    coefficients: list[float],
    maximize: bool,
    noise_key: int,
    threads: int,
) -> None: ...
def nadam_dense(
    count: int,
    state: _State,
    gradient: int,
    gradient_dtype: int,
    coefficients: list[float],
    maximize: bool,
    noise_key: int,
    threads: int,
) -> None: ...
def measure_read(address: int, num_bytes: int, threads: int) -> float: ...
def measure_write(address: int, num_bytes: int, threads: int) -> None: ...
def empty(count: int, dtype: int) -> npt.NDArray[np.float32 | np.int16]: ...
def advise_huge_pages(address: int, num_bytes: int) -> None: ...
def empty_cache() -> None: ...
def set_cache_limit(num_bytes: int) -> None: ...
def cache_statistics() -> dict[str, int]: ...
def available_isas() -> list[str]: ...
def select_isa(name: str) -> None: ...
def selected_isa() -> str: ...
