"""Spatially-preserving flattening for PyTorch: one auto-encoder a feature map, as a handful of fused kernels."""

from importlib.metadata import PackageNotFoundError, version

from spf_kernels import distributed, functional, optim
from spf_kernels.backends.native import NativeUnavailableError
from spf_kernels.counters import counters, reset_counters
from spf_kernels.factors import FactoredGrad
from spf_kernels.folding import fold_upsampling, upsampled_mse_loss
from spf_kernels.initialization import dct_basis
from spf_kernels.memory import cache_statistics, empty_cache, set_cache_limit
from spf_kernels.modules import AutoencoderOutput, SPFAutoencoder, SPFDecoder, SPFFlatten
from spf_kernels.selection import TritonUnavailableError, use_backend

try:
    __version__ = version("spf-kernels")
except PackageNotFoundError:
    __version__ = "not installed"

__all__ = [
    "AutoencoderOutput",
    "FactoredGrad",
    "NativeUnavailableError",
    "SPFAutoencoder",
    "SPFDecoder",
    "SPFFlatten",
    "TritonUnavailableError",
    "cache_statistics",
    "counters",
    "dct_basis",
    "distributed",
    "empty_cache",
    "fold_upsampling",
    "functional",
    "optim",
    "reset_counters",
    "set_cache_limit",
    "upsampled_mse_loss",
    "use_backend",
]
