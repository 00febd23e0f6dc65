"""Training on many ranks: factors instead of gradients between replicas, or the maps divided among the ranks.

`python -m torch.distributed.run --nproc-per-node 2 script.py` (torchrun) starts the ranks; in the script:

    torch.distributed.init_process_group()  # with CPU and GPU backends, if there is a GPU
    model = Network().to(device)  # with the same seed on all ranks
    spf_kernels.distributed.gather_factors(model)  # or shard_maps(model), or both
    model = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = spf_kernels.optim.NAdam(model.parameters())

All ranks must run the same forwards and backwards in the same order, as DistributedDataParallel itself asks, validation
of a sharded module included. A rank may have fewer samples than others, or none. A rank that ends or hangs ends the
others with a RuntimeError, at the latest after the process group's time-out.
"""

from spf_kernels.distributed.checkpoints import (
    gather_optimizer_state_dict,
    gather_state_dict,
    load_optimizer_state_dict,
)
from spf_kernels.distributed.clipping import clip_grad_norm_
from spf_kernels.distributed.ddp import gather_factors
from spf_kernels.distributed.ignoring import ignored_parameters
from spf_kernels.distributed.sharding import shard_maps

__all__ = [
    "clip_grad_norm_",
    "gather_factors",
    "gather_optimizer_state_dict",
    "gather_state_dict",
    "ignored_parameters",
    "load_optimizer_state_dict",
    "shard_maps",
]
