"""The Triton kernels compiled ahead of time, without a GPU: exactly what a call would launch on a card."""

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from spf_kernels.backends import triton as backend
from spf_kernels.backends.triton.launch import Card, Config

# of the cards that share a table, the one with the least shared memory
CARDS = {
    "sm_80": Card("sm_80", 108, 99 * 1024),
    "sm_90": Card("sm_90", 132, 227 * 1024),
    "sm_100": Card("sm_100", 148, 227 * 1024),
    "hip": Card("hip", 304, 64 * 1024),
}
TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "hip": GPUTarget("hip", "gfx942", 64),
}
_TYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16"}
_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_.]+)", re.MULTILINE)
_USAGE = re.compile(r"STACK:(\d+) SHARED:\d+ LOCAL:(\d+)")


@dataclass
class Launch:
    """One launch: the kernel, its arguments in order, its constants and how it is cut."""

    kernel: Any
    arguments: tuple[Any, ...]
    constants: dict[str, Any]
    config: Config

    @property
    def name(self) -> str:
        return self.kernel.fn.__name__.removesuffix("_kernel")

    def compile(self, architecture: str) -> Any:
        """The compiled kernel, every tensor taken to start on 16 bytes, as PyTorch's do."""
        signature, constants, attributes = {}, {}, {}
        for index, name in enumerate(self.kernel.arg_names):
            value = self.arguments[index] if index < len(self.arguments) else self.constants[name]
            if isinstance(value, Tensor):
                signature[name] = _TYPES[value.dtype]
                attributes[(index,)] = [["tt.divisibility", 16]]
            elif index < len(self.arguments) and value is not None:
                integer = "i32" if -(2**31) <= value < 2**31 else "i64"
                signature[name] = "fp32" if isinstance(value, float) else integer
            else:
                signature[name] = "constexpr"
                constants[(index,)] = value
        source = ASTSource(self.kernel, signature, constants, attributes)
        options = {"num_warps": self.config.warps, "num_stages": self.config.stages, "enable_fp_fusion": True}
        return triton.compile(source, target=TARGETS[architecture], options=options)


def _record(monkeypatch) -> list[Launch]:
    recorded: list[Launch] = []

    def record(kernel, programs, *rest):
        if programs:
            recorded.append(Launch(kernel, *rest))

    monkeypatch.setattr(backend, "_launch", record)
    return recorded


def launches(monkeypatch, architecture: str, precision: str, sizes: tuple[int, int, int, int]) -> list[Launch]:
    """What one call of each function launches on a card of this architecture."""
    recorded = _record(monkeypatch)
    monkeypatch.setattr(backend, "card_of", lambda _: CARDS[architecture])
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision, torch.float32)
    empty = partial(torch.empty, dtype=dtype, device="meta")
    B, C, D, S = sizes
    codes, maps, weight = empty(B, C, D), empty(B, C, S), empty(C, D, S)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        backend.encode(maps, weight, empty(C, D), "relu")
        backend.decode(codes, weight, empty(C, S), "tanh")
        backend.outer(codes, maps, dtype)
        backend.reconstruct(codes, maps, weight, empty(C, S), "sigmoid", True, True, True)
    finally:
        torch.set_float32_matmul_precision(before)
    return recorded


def nadam_launches(monkeypatch, state_dtype: torch.dtype, sizes: tuple[int, int, int, int]) -> list[Launch]:
    """The same for one step of NAdam of float32 weights, from factors and from a dense gradient."""
    recorded = _record(monkeypatch)
    B, C, D, S = sizes
    empty = partial(torch.empty, device="meta")
    weight, momentum, variance = empty(C, D, S), empty(C, D, S, dtype=state_dtype), empty(C, D, S, dtype=state_dtype)
    step = (0.9, 0.999, 1e-8, 0.0, 1.0, 1e-3, 1e-3, 0.1, False, 2**32 - 1)
    backend.nadam_factored_(weight, momentum, variance, empty(B, C, D), empty(B, C, S), *step)
    backend.nadam_dense_(weight, momentum, variance, empty(C, D, S), *step)
    return recorded


class Machine:
    """What the assembler made of a kernel for an NVIDIA card.

    Args:
        compiled: The compiled kernel.
    """

    def __init__(self, compiled: Any) -> None:
        self._binary: bytes = compiled.asm["cubin"]

    @property
    def spilled(self) -> int:
        """Bytes of registers kept in memory, and stack."""
        return _spilled(self._binary)

    def count(self, name: str, modifier: str = "") -> int:
        """Instructions of this name, with this modifier."""
        return sum(
            number
            for instruction, number in _instructions(self._binary).items()
            if instruction.split(".")[0] == name and modifier in ("", *instruction.split(".")[1:])
        )


# kept: one kernel serves several sizes, and disassembling takes longer than compiling
@cache
def _spilled(binary: bytes) -> int:
    usage = _USAGE.search(_run(binary, triton.knobs.nvidia.cuobjdump.path, "-res-usage"))
    stack, local = map(int, usage.groups())
    return stack + local


@cache
def _instructions(binary: bytes) -> Counter[str]:
    """How often each instruction occurs, by name with its modifiers."""
    return Counter(_INSTRUCTION.findall(_run(binary, triton.knobs.nvidia.nvdisasm.path, "-c", "-ndf")))


def _run(binary: bytes, *command: str) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        return subprocess.run([*command, file.name], capture_output=True, text=True, check=True).stdout
