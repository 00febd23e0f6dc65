"""What encoders and decoders have in common: one weight for all maps, its start, its sizes."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spf_kernels import functional
from spf_kernels.backends.native import advise_huge_pages
from spf_kernels.initialization import check_init
from spf_kernels.linears import make_linears
from spf_kernels.map_exchange import MapShards
from spf_kernels.sizes import check_map_size, check_positive

Device = torch.device | str | None


class PerMapLayer(nn.Module):
    """C linear layers whose weights are one tensor (C, D, S).

    Attributes:
        init: What the weight starts as, "linear", "grid" or "dct"; see `reset_parameters`.
        shards: None, or which of the maps this rank has: then `weight` and `bias` are those maps' only, see
            `spf_kernels.distributed.shard_maps`.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        num_maps: int,
        map_size: int | Sequence[int],
        code_size: int,
        activation: str | None,
        grad_mode: str,
        init: str,
    ) -> None:
        super().__init__()
        self.num_maps = check_positive("num_maps", num_maps)
        self.map_size = check_map_size(map_size)
        self.code_size = check_positive("code_size", code_size)
        functional.check_activation(activation)
        self.activation = activation
        self.grad_mode = functional.check_grad_mode(grad_mode)
        self.init = check_init(init)
        self.shards: MapShards | None = None

    def _create(self, fan_in: int, bias_size: int, bias: bool, device: Device, dtype: torch.dtype | None) -> None:
        pixels = self.map_size[0] * self.map_size[1]
        self._bound = 1 / math.sqrt(fan_in)
        weight = torch.empty(self.num_maps, self.code_size, pixels, device=device, dtype=dtype)
        advise_huge_pages(weight)
        self.weight = nn.Parameter(weight)
        created = nn.Parameter(torch.empty(self.num_maps, bias_size, device=device, dtype=dtype)) if bias else None
        self.register_parameter("bias", created)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Starts again, as `init` says.

        "linear": uniform in +-1/sqrt(inputs of one layer), weight and bias, as `nn.Linear`. "grid" and "dct": the rows
        of `spf_kernels.initialization`, the same for every map, and bias 0; an encoder's codes beyond them as "linear".
        """
        if self.init == "linear":
            nn.init.uniform_(self.weight, -self._bound, self._bound)
            if self.bias is not None:
                nn.init.uniform_(self.bias, -self._bound, self._bound)
            return
        rows = self._start()
        self.weight[:, : rows.shape[0]] = rows
        nn.init.uniform_(self.weight[:, rows.shape[0] :], -self._bound, self._bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def _start(self) -> Tensor:
        """(R, S), the first R <= D rows of every map's weight where `init` is not "linear"."""
        raise NotImplementedError

    def check_map_size(self, maps: Tensor) -> None:
        """Raises ValueError for maps (B, C, H, W) of another height and width; (B, C, H*W) has none."""
        if maps.dim() == 4 and tuple(maps.shape[2:]) != self.map_size:
            raise ValueError(f"maps must be {self.map_size} in height and width, got {tuple(maps.shape[2:])}")

    def _check_whole(self) -> None:
        if self.shards is not None:
            raise ValueError("a sharded module has its own maps only; see spf_kernels.distributed.gather_state_dict")

    def _to_linears(self, transpose: bool) -> list[nn.Linear]:
        self._check_whole()
        return make_linears(self.weight, self.bias, transpose)

    def extra_repr(self) -> str:
        """The constructor's arguments, the last two where they are not the defaults; this rank's maps of a share."""
        return (
            f"num_maps={self.num_maps}, map_size={self.map_size}, code_size={self.code_size}, "
            f"activation={self.activation!r}, bias={self.bias is not None}"
            + ("" if self.grad_mode == "dense" else f", grad_mode={self.grad_mode!r}")
            + ("" if self.init == "linear" else f", init={self.init!r}")
            + ("" if self.shards is None else f", here maps {self.shards.start} to {self.shards.stop - 1}")
        )
