"""Which share of a training step, and of inference, is the head's: a loop of nn.Linear against this package's."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

from spf_kernels import SPFAutoencoder
from spf_kernels.optim import NAdam
from spf_net.report import markdown_table

_LR = 1e-6


@dataclass(frozen=True)
class Sizes:
    """Of the maps and codes; the paper's by default.

    Attributes:
        num_maps: C.
        map_size: (H, W).
        code_size: D.
    """

    num_maps: int = 128
    map_size: tuple[int, int] = (64, 64)
    code_size: int = 128


class LoopAutoencoder(nn.Module):
    """What one writes first: an nn.Linear a map to encode, another to decode, and a loop over the maps."""

    def __init__(self, sizes: Sizes) -> None:
        """Build the layers, with the weights of an `SPFAutoencoder` so that both compute the same.

        Args:
            sizes: Of the maps and codes.
        """
        super().__init__()
        encoders, decoders = _autoencoder(sizes).to_linears()
        self.encoders, self.decoders = nn.ModuleList(encoders), nn.ModuleList(decoders)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> codes (B, C*D) and the mean squared error of the decoded maps."""
        codes, errors = [], []
        for index, pixels in enumerate(maps.flatten(2).unbind(1)):
            code = torch.relu(self.encoders[index](pixels))
            codes.append(code)
            errors.append((self.decoders[index](code) - pixels.detach()).square().mean())
        return torch.cat(codes, dim=1), torch.stack(errors).mean()

    def encode(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> codes (B, C*D), all that inference needs."""
        pairs = zip(self.encoders, maps.flatten(2).unbind(1), strict=True)
        return torch.cat([torch.relu(encoder(pixels)) for encoder, pixels in pairs], dim=1)


@dataclass(frozen=True)
class Timing:
    """Seconds of a batch.

    Attributes:
        name: What was measured.
        batch: B.
        step: Forward, backward and the optimizer's step.
        inference: Forward alone, without gradients.
    """

    name: str
    batch: int
    step: float
    inference: float


def time_heads(batches: Sequence[int], sizes: Sizes, repeats: int = 3) -> list[Timing]:
    """The auto-encoders alone: the loop with torch's NAdam, ours with factored gradients and our NAdam.

    Args:
        batches: B.
        sizes: Of the maps and codes.
        repeats: The median of so many, after one that is not counted.
    """
    timings = []
    for batch in batches:
        maps = torch.rand(batch, sizes.num_maps, *sizes.map_size, generator=torch.Generator().manual_seed(0))
        loop = LoopAutoencoder(sizes)
        steps = _step(loop, torch.optim.NAdam(loop.parameters(), _LR), maps, repeats)
        timings.append(Timing("loop of nn.Linear", batch, steps, _inference(loop.encode, maps, repeats)))
        del loop
        ours = _autoencoder(sizes)
        steps = _step(ours, NAdam(ours.parameters(), _LR), maps, repeats)
        timings.append(Timing("spf_kernels", batch, steps, _inference(ours.encoder, maps, repeats)))
        del ours
    return timings


def time_extractor(name: str, extractor: nn.Module, image_size: int, batch: int, repeats: int = 3) -> Timing:
    """An extractor alone, with our NAdam; `batch` images of one channel at a time."""
    images = torch.rand(batch, 1, image_size, image_size, generator=torch.Generator().manual_seed(0))
    extractor.train()
    parameters = [parameter for parameter in extractor.parameters() if parameter.requires_grad]
    optimizer = NAdam(parameters, _LR)

    def step() -> None:
        optimizer.zero_grad()
        extractor(images).square().mean().backward()
        optimizer.step()

    seconds = _median(step, repeats)
    extractor.eval()
    return Timing(name, batch, seconds, _inference(extractor, images, repeats))


def share_table(heads: Sequence[Timing], extractors: Sequence[Timing]) -> str:
    """One row a head, batch and extractor; extractors measured on fewer images are scaled to the batch.

    Args:
        heads: From `time_heads`.
        extractors: From `time_extractor`.
    """
    header = ["extractor", "head", "batch", "extractor, s a step", "head, s a step", "head's share of a step"]
    header += ["extractor, s inference", "head, s inference", "head's share of inference"]
    rows = []
    for extractor in extractors:
        for head in heads:
            scale = head.batch / extractor.batch
            step, inference = extractor.step * scale, extractor.inference * scale
            rows.append(
                [
                    extractor.name,
                    head.name,
                    str(head.batch),
                    f"{step:.2f}",
                    f"{head.step:.3f}",
                    f"{head.step / (head.step + step):.1%}",
                    f"{inference:.2f}",
                    f"{head.inference:.4f}",
                    f"{head.inference / (head.inference + inference):.1%}",
                ]
            )
    return markdown_table(header, rows)


def _autoencoder(sizes: Sizes) -> SPFAutoencoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SPFAutoencoder(
            sizes.num_maps, sizes.map_size, sizes.code_size, "relu", detach_target=True, grad_mode="factored"
        )


def _step(head: nn.Module, optimizer: torch.optim.Optimizer, maps: Tensor, repeats: int) -> float:
    seen = maps.clone().requires_grad_()

    def step() -> None:
        optimizer.zero_grad()
        seen.grad = None
        codes, loss = head(seen)
        (codes.mean() + loss).backward()
        optimizer.step()

    return _median(step, repeats)


@torch.inference_mode()
def _inference(function: Callable[[Tensor], Tensor], batch: Tensor, repeats: int) -> float:
    return _median(lambda: function(batch), repeats)


def _median(function: Callable[[], object], repeats: int) -> float:
    function()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return median(seconds)
