"""The settings of a training run, from defaults, YAML files and the command line."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from jsonargparse import ArgumentParser
from spf_data.registry import DataConfig

from spf_net.extractor import ExtractorConfig
from spf_net.heads import GradMode, HeadConfig
from spf_net.lung_frame import FrameConfig

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Settings = TypeVar("Settings")
StateDtype = Literal["float32", "bfloat16"]
Strategy = Literal["single", "ddp", "map_parallel"]

# What one mostly wants to set, by a shorter name.
_SHORT_FORMS = {
    "--data": "--data.name",
    "--extractor": "--extractor.name",
    "--head": "--head.name",
    "--frame": "--frame.source",
    "--optim.grad_mode": "--optimizer.grad_mode",
    "--optim.state_dtype": "--optimizer.state_dtype",
    "--precision": "--training.precision",
    "--strategy": "--training.strategy",
    "--devices": "--training.devices",
}
_SWITCHES = ("--resume", "--overwrite")
_DESCRIPTION = "Train a network that says where findings are in a chest X-ray."


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer.

    Attributes:
        name: "nadam", the paper's.
        lr: Learning rate. The paper's is 2e-6, for features that start pre-trained.
        eps: Added to the root of the second moment. The default is Keras', which the paper used; PyTorch's is 1e-8.
        betas: Decay of the first and the second moment.
        weight_decay: Decoupled from the gradient, as in AdamW.
        grad_mode: How the spf head's backward leaves the gradients of its weights: "factored" never writes them, the
            optimizer's step makes them from their factors on the fly; "dense" writes them. Exact either way.
        state_dtype: Of momentum and variance: "float32", or "bfloat16", rounded at random, which takes half the memory.
            null for the weights' own.
    """

    name: Literal["nadam"] = "nadam"
    lr: float = 1e-3
    eps: float = 1e-7
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    grad_mode: GradMode = "factored"
    state_dtype: StateDtype | None = None


@dataclass(frozen=True)
class TrainingConfig:
    """How training goes.

    Attributes:
        epochs: Train for at most this many epochs.
        patience: Stop when the classification loss on the validation part has not fallen for this many epochs.
        max_minutes: Stop after the epoch in which this time is reached; the result says so. null for no limit.
        batch_size: Images at a time on each device.
        accumulation: Batches a step: their gradients are added up, which is exactly the gradient of one larger batch.
        seed: Split, initial weights, order of the images, augmentation, dropout and bootstrap follow from it.
        split: Shares of the patients in train, validation and test.
        class_weights: Weigh positives by negatives / positives of their label.
        rotation: Augmentation: largest angle in degrees, either way.
        shift: Augmentation: largest shift along each axis as a share of the image's size, either way.
        flip: Augmentation: probability of a horizontal flip, which swaps the labels and lungs of right and left.
        resamples: Of the patients, for the confidence intervals.
        accelerator: "cpu", "cuda", "mps" or "auto".
        devices: Number of devices; more than one trains with one process each.
        strategy: What several devices share: "single" for one device alone; "ddp": each has the whole network and a
            share of the batch; "map_parallel": as ddp, but each has a share of the spf head's maps, with their weights.
        timeout: Seconds to wait for another process before ending with an error.
        precision: Of Lightning Fabric: "32-true", "bf16-mixed" and so on.
        num_workers: Processes that load images; 0 loads them in the training process.
    """

    epochs: int = 100
    patience: int = 10
    max_minutes: float | None = None
    batch_size: int = 32
    accumulation: int = 1
    seed: int = 0
    split: tuple[float, float, float] = (0.7, 0.1, 0.2)
    class_weights: bool = False
    rotation: float = 5.0
    shift: float = 0.05
    flip: float = 0.0
    resamples: int = 200
    accelerator: str = "auto"
    devices: int = 1
    strategy: Strategy = "single"
    timeout: float = 600.0
    precision: Literal["32-true", "16-mixed", "bf16-mixed", "bf16-true", "64-true"] = "32-true"
    num_workers: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "batch_size", "accumulation", "devices", "resamples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("rotation", "shift", "num_workers", "seed"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip must be in [0, 1], got {self.flip}")
        for name in ("max_minutes", "timeout"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.strategy == "single" and self.devices > 1:
            raise ValueError(f"strategy must be 'ddp' or 'map_parallel' for {self.devices} devices, got 'single'")
        if self.strategy == "map_parallel" and self.precision == "16-mixed":
            # Each process would skip the steps that overflow in its own maps.
            raise ValueError("precision must be 'bf16-mixed' or without a loss scale for map_parallel, got '16-mixed'")


@dataclass(frozen=True)
class RunConfig:
    """One training run.

    Attributes:
        data: What to train on.
        extractor: From images to feature maps.
        frame: Which part of the image fills the maps.
        head: From feature maps to a vector.
        optimizer: The optimizer.
        training: How training goes.
        output: Folder for checkpoints, metrics and TensorBoard.
        resume: Go on from the last checkpoint in `output`, if there is one.
        overwrite: Start anew although `output` holds a run; its checkpoints are deleted.
    """

    data: DataConfig = field(default_factory=DataConfig)
    extractor: ExtractorConfig = field(default_factory=ExtractorConfig)
    frame: FrameConfig = field(default_factory=FrameConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    output: Path = Path("runs/train")
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.training.strategy == "map_parallel" and self.head.name != "spf":
            raise ValueError(f"strategy must be 'single' or 'ddp' for the head {self.head.name!r}, got 'map_parallel'")
        if self.frame.source == "predicted" and self.frame.regressor is None:
            raise ValueError(
                "regressor must be what train_lungs.py wrote (a folder) for the frame 'predicted', got None"
            )


def build_parser(settings: type = RunConfig, description: str = _DESCRIPTION) -> ArgumentParser:
    """The command line: `--config FILE.yaml` and one option a field, later ones overriding earlier ones."""
    parser = ArgumentParser(description=description)
    parser.add_argument("--config", action="config", help="YAML file of settings; may be given more than once")
    parser.add_class_arguments(settings)
    return parser


def parse_config(arguments: Sequence[str]) -> RunConfig:
    """Read a run's settings from command line arguments; exits with a message where they are invalid."""
    return parse_settings(RunConfig, _DESCRIPTION, arguments)


def parse_settings(settings: type[Settings], description: str, arguments: Sequence[str]) -> Settings:
    """Read the settings of any script.

    Args:
        settings: A dataclass of them.
        description: What the script does, for its help.
        arguments: Of the command line.

    Returns:
        The settings; exits with a message where they are invalid.
    """
    parser = build_parser(settings, description)
    try:
        parsed = parser.instantiate(parser.parse_args(_expand(arguments)))
        parsed.pop("config")
        return settings(**vars(parsed))
    except ValueError as error:
        parser.error(str(error))


def config_to_dict(config: "DataclassInstance") -> dict[str, Any]:
    """The settings as plain values for JSON."""
    plain: dict[str, Any] = _plain(asdict(config))
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _expand(arguments: Sequence[str]) -> list[str]:
    """`--data NAME` becomes `--data.name NAME` and so on, and `--resume` alone `--resume=true`."""
    expanded = []
    for argument, following in pairwise([*arguments, "--"]):
        option, equals, value = argument.partition("=")
        if argument in _SWITCHES and following.startswith("--"):
            equals, value = "=", "true"
        expanded.append(_SHORT_FORMS.get(option, option) + equals + value)
    return expanded
