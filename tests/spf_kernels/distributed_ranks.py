"""Starts the ranks of all scenarios: `python -m tests.spf_kernels.distributed_ranks FOLDER`.

Everything is imported once; then the process forks. Each rank saves what its scenario returns. A stage begins when the
one before has ended; the scenarios of one stage run side by side, each with ranks of its own.
"""

import os
import sys
import traceback
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from tests.spf_kernels import distributed_faults, distributed_scenarios
from tests.spf_kernels.distributed_helpers import Place

FAULTS = distributed_faults.SCENARIOS
SCENARIOS = {"everything": distributed_scenarios.everything, **FAULTS}
# four ranks go on from the checkpoint of two
STAGES = [[("everything", 2)], [("everything", 4)], [(name, 2) for name in FAULTS]]


def run_rank(scenario, place):
    """In a process of its own."""
    torch.set_num_threads(1)
    store = f"file://{place.folder}/{scenario}-{place.world}.store"
    timeout = timedelta(seconds=distributed_faults.TIMEOUT_S if scenario in FAULTS else 60)
    dist.init_process_group("gloo", init_method=store, rank=place.rank, world_size=place.world, timeout=timeout)
    result = SCENARIOS[scenario](place)
    torch.save(result, place.folder / f"{scenario}-{place.world}-{place.rank}.pt")
    dist.destroy_process_group()


def fork(scenario, place):
    """The process of a rank."""
    child = os.fork()
    if child:
        return child
    try:
        run_rank(scenario, place)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(1)


def main():
    folder = Path(sys.argv[1])
    for stage in STAGES:
        ranks = [(name, Place(rank, world, folder)) for name, world in stage for rank in range(world)]
        for child in [fork(*each) for each in ranks]:
            os.waitpid(child, 0)


if __name__ == "__main__":
    main()
