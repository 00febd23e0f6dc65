"""What is measured. A new operation is a file here and a line in `OPERATIONS`."""

from bench.gpu.operations.base import Operation
from bench.gpu.operations.forward import Forward
from bench.gpu.operations.gradients import MapsGradient, WeightGradient
from bench.gpu.operations.optimizer import Update, WholeStep
from bench.gpu.operations.reconstruct import Reconstruct
from bench.gpu.operations.training import AutoencoderStep, Backward

OPERATIONS: tuple[Operation, ...] = (
    Forward(),
    MapsGradient(),
    WeightGradient(),
    Reconstruct(),
    Backward(),
    AutoencoderStep(),
    Update(),
    WholeStep(),
)
