"""Scores for the images of a data set."""

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from spf_data.dataset import XrayDataset
from torch import nn
from torch.utils.data import DataLoader, Subset


@torch.no_grad()
def predict(
    fabric: Fabric,
    network: nn.Module,
    dataset: XrayDataset,
    rows: npt.NDArray[np.int64],
    batch_size: int,
    num_workers: int = 0,
) -> npt.NDArray[np.float32]:
    """Logits of some images, in evaluation mode; with several processes each computes its share.

    Args:
        fabric: Runs the network.
        network: As `fabric.setup` returned it.
        dataset: Images.
        rows: (N,), which of them, at least one for each process.
        batch_size: Images at a time.
        num_workers: Processes that load images.

    Returns:
        float32 (N, L), the same in every process.
    """
    was_training = network.training
    network.eval()
    mine = np.arange(fabric.global_rank, len(rows), fabric.world_size)
    # Where the images do not come out even, some processes repeat one: a network spread over them works in step.
    shared = np.resize(mine, -(-len(rows) // fabric.world_size))
    loader = DataLoader(Subset(dataset, rows[shared].tolist()), batch_size, num_workers=num_workers)
    outputs = torch.cat(
        [network(*(batch[key].to(fabric.device) for key in ("image", "lungs"))).logits.float() for batch in loader]
    )
    network.train(was_training)
    logits = torch.zeros(len(rows), len(dataset.label_set), device=fabric.device)
    logits[mine] = outputs[: len(mine)]
    # Every row is zero in all processes but one.
    summed: torch.Tensor = fabric.all_reduce(logits, reduce_op="sum")  # type: ignore[assignment]
    scores: npt.NDArray[np.float32] = summed.cpu().numpy()
    return scores
