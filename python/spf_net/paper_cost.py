"""Hours and memory of an epoch at the paper's size: counted, and timed on this machine as far as one step goes."""

import time
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from spf_kernels.footprint import Training, factored
from spf_kernels.optim import NAdam
from spf_net.config import RunConfig
from spf_net.losses import masked_bce
from spf_net.network import SPFNetwork, build_network
from spf_net.report import markdown_table

# SPF paper, table 2 and section 2.2.
TRAINING_IMAGES = 75_613
BATCH = 12
CARDS = 2
EPOCHS = 30
LABELS = 57
# One V100 in float32, from NVIDIA's data sheet.
CARD_FLOPS = 15.7e12
# Weight, gradient, momentum and variance in float32.
_BYTES_A_PARAMETER = 16
# A backward pass computes two products for each one of the forward pass.
_PASSES = 3


@dataclass(frozen=True)
class PaperCost:
    """Counts of the network at its full size.

    Attributes:
        extractor_parameters: Trainable ones.
        head_parameters: Of the auto-encoders.
        extractor_flops: Of one image's forward pass, a multiply-add being two.
        head_flops: Of one image's forward pass, with the decoders.
        activation_bytes: What the extractor keeps of one image for its backward pass.
        head_bytes: Weights, factors, momentum, variance, maps and codes on one card.
        seconds: Of a training step here, and of how many images; none where it was not timed.
        step_images: See `seconds`.
    """

    extractor_parameters: int
    head_parameters: int
    extractor_flops: int
    head_flops: int
    activation_bytes: int
    head_bytes: int
    seconds: float | None = None
    step_images: int = 2

    @property
    def epoch_flops(self) -> int:
        """Of all training images, forward and backward."""
        return _PASSES * (self.extractor_flops + self.head_flops) * TRAINING_IMAGES

    @property
    def card_bytes(self) -> int:
        """On each card, with its half of the batch."""
        extractor = self.extractor_parameters * _BYTES_A_PARAMETER + self.activation_bytes * (BATCH // CARDS)
        return extractor + self.head_bytes


def count_paper_cost(config: RunConfig, *, timed: bool, step_images: int = 2, repeats: int = 2) -> PaperCost:
    """Build the network of `paper.yaml` with random weights, and count.

    Args:
        config: Of the run; its extractor must not load weights.
        timed: Whether to run training steps, too: minutes on a CPU.
        step_images: Images of such a step.
        repeats: The median of so many steps, after one that is not counted.
    """
    network = build_network(
        config.extractor, config.head, 1, config.data.image_size, LABELS, 0, config.optimizer.grad_mode
    )
    image = torch.rand(1, 1, config.data.image_size, config.data.image_size, generator=torch.Generator().manual_seed(0))
    flops, activations = _count(network, image)
    height, width = network.extractor.map_size
    maps, code = network.extractor.num_maps, config.head.code_size
    head = Training(maps, height * width, code, BATCH // CARDS, autoencoder=True)
    return PaperCost(
        sum(each.numel() for each in network.extractor.parameters() if each.requires_grad),
        sum(each.numel() for each in network.head.parameters()),
        flops,
        # Encoders and decoders, a multiply-add each for every weight.
        2 * head.weights,
        activations,
        factored(head).total,
        _seconds_a_step(network, config, step_images, repeats) if timed else None,
        step_images,
    )


def cost_table(cost: PaperCost) -> str:
    """What an epoch takes, with the formula of each number."""
    card_hours = cost.epoch_flops / (CARDS * CARD_FLOPS) / 3600
    rows = [
        ["parameters of the extractor", "counted", f"{cost.extractor_parameters / 1e6:.1f} million"],
        ["parameters of the auto-encoders", "2 C D S + C (D + S)", f"{cost.head_parameters / 1e6:.1f} million"],
        ["forward pass of the extractor, an image", "counted", f"{cost.extractor_flops / 1e9:.0f} GFLOP"],
        ["forward pass of the auto-encoders, an image", "4 C D S", f"{cost.head_flops / 1e9:.2f} GFLOP"],
        [
            f"an epoch of {TRAINING_IMAGES:,} images",
            f"{_PASSES} x forward x images",
            f"{cost.epoch_flops / 1e15:.1f} PFLOP",
        ],
        [
            f"hours an epoch on {CARDS} V100, at least",
            f"PFLOP / ({CARDS} x {CARD_FLOPS / 1e12} TFLOP/s, the data sheet's float32)",
            f"{card_hours:.2f} (all {EPOCHS} epochs {EPOCHS * card_hours:.0f})",
        ],
        [
            f"memory a card, batch {BATCH // CARDS}",
            f"{_BYTES_A_PARAMETER} B x extractor + activations x {BATCH // CARDS} + auto-encoders "
            f"({cost.activation_bytes / 1e9:.2f} GB an image, {cost.head_bytes / 1e9:.2f} GB)",
            f"{cost.card_bytes / 1e9:.1f} GB",
        ],
        _measured_row(cost),
    ]
    return markdown_table(["what", "how", "value"], rows)


def _measured_row(cost: PaperCost) -> list[str]:
    if cost.seconds is None:
        return ["hours an epoch on this CPU", "not timed: run with --paper-step", "–"]
    hours = TRAINING_IMAGES / cost.step_images * cost.seconds / 3600
    how = (
        f"a step of {cost.step_images} images in {cost.seconds:.1f} s with {torch.get_num_threads()} threads, measured"
    )
    return ["hours an epoch on this CPU", how, f"{hours:.0f}"]


def _count(network: SPFNetwork, image: Tensor) -> tuple[int, int]:
    """FLOPs of the extractor's forward pass, and bytes it keeps for the backward pass, its parameters left out."""
    parameters = {each.untyped_storage().data_ptr() for each in network.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    network.extractor.train()
    counter = FlopCounterMode(display=False)
    with counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        # Held until all is counted: a storage that is freed may come again as another tensor's.
        maps = network.extractor(image)
    del maps
    return counter.get_total_flops(), sum(kept.values())


def _seconds_a_step(network: SPFNetwork, config: RunConfig, images: int, repeats: int) -> float:
    generator = torch.Generator().manual_seed(0)
    batch = torch.rand(images, 1, config.data.image_size, config.data.image_size, generator=generator)
    labels = torch.randint(2, (images, LABELS), generator=generator).float()
    trainable = [each for each in network.parameters() if each.requires_grad]
    optimizer = NAdam(trainable, config.optimizer.lr, config.optimizer.betas, config.optimizer.eps)
    network.train()
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        optimizer.zero_grad()
        logits, loss = network(batch)
        (masked_bce(logits, labels) + config.head.reconstruction_weight * loss).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - started)
    return median(seconds[1:])
