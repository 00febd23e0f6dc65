"""How many bytes a training step keeps at its peak, by how the gradient and the optimizer's state are kept.

Counted are tensors: parameters, what the optimizer keeps, and what one step makes of the maps. Not counted: the network
in front, interpreter and libraries, a GPU's context, and what an allocator keeps unused.

C maps, S pixels a map, D code size, B samples, R ranks. A weight has P = C D S elements; an auto-encoder has two. In
elements, biases apart:

| mode                     | weights | gradient    | momentum, variance | maps and codes | temporary |
|--------------------------|---------|-------------|--------------------|----------------|-----------|
| dense, torch.optim.NAdam | P       | P           | 2 P                | 2 B C (S + D)  | P         |
| dense                    | P       | P           | 2 P                | 2 B C (S + D)  |           |
| factored                 | P       | the factors | 2 P                | 2 B C (S + D)  |           |
| sharded                  | P / R   | the factors | 2 P / R            | 4 B C (S + D)  | B C S     |
| inference                | P       |             |                    | B C (S + D)    |           |

Maps and codes are there twice, once as gradients; where they are sharded, once more as they came from the other ranks.
Of the factors, the maps are counted with the maps. The others are the gradient of the codes before the activation,
B C D, and for the decoder the scaled codes, B C D, and the error of the decoded maps, B C S. torch.optim.NAdam makes
the root of the variance of all parameters at once (foreach, its default on a GPU).
"""

from dataclasses import dataclass, replace

TORCH_DENSE = "dense, torch.optim.NAdam"
DENSE = "dense, spf_kernels.optim.NAdam"
FACTORED = "factored"
FACTORED_BF16_STATE = "factored, bfloat16 state"
INFERENCE = "inference"
_BF16_BYTES = 2
_GB = 10**9
CARDS_GB = (16, 24, 80, 141)


@dataclass(frozen=True)
class Training:
    """What is trained, by each rank on a batch of its own.

    Attributes:
        num_maps: C.
        pixels: S, height times width of a map.
        code_size: D.
        batch: B, the samples of one rank.
        autoencoder: Whether there are decoders, too.
        element_bytes: Of an element of weights, gradients, maps and codes.
        state_bytes: Of an element of momentum and variance; torch.optim.NAdam keeps them as `element_bytes`.

    Raises:
        ValueError: A size below 1.
    """

    num_maps: int
    pixels: int
    code_size: int
    batch: int
    autoencoder: bool = False
    element_bytes: int = 4
    state_bytes: int = 4

    def __post_init__(self) -> None:
        for name in ("num_maps", "pixels", "code_size", "batch", "element_bytes", "state_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def weights(self) -> int:
        """Elements of the weights."""
        return (1 + self.autoencoder) * self.num_maps * self.code_size * self.pixels

    @property
    def biases(self) -> int:
        """Elements of the biases: a code's an encoder, a map's a decoder."""
        return self.num_maps * (self.code_size + self.autoencoder * self.pixels)

    @property
    def maps(self) -> int:
        """Elements of the feature maps."""
        return self.batch * self.num_maps * self.pixels

    @property
    def codes(self) -> int:
        """Elements of the codes."""
        return self.batch * self.num_maps * self.code_size


@dataclass(frozen=True)
class Footprint:
    """Bytes at the peak of a step, by what they hold.

    Attributes:
        mode: In words.
        weights: Weights and biases.
        gradients: Dense gradients, or the factors that exist for the gradient's sake.
        state: Momentum and variance.
        maps: Feature maps, codes, and the gradients of both.
        temporary: What the update, or sending the maps, needs for a while.
    """

    mode: str
    weights: int
    gradients: int
    state: int
    maps: int
    temporary: int = 0

    @property
    def total(self) -> int:
        """The sum."""
        return self.weights + self.gradients + self.state + self.maps + self.temporary

    def cards(self) -> list[int]:
        """The cards of `CARDS_GB` that hold it, a GB being 10^9 bytes."""
        return [card for card in CARDS_GB if self.total <= card * _GB]


def break_even_batch(code_size: int, pixels: int) -> int:
    """The least batch B whose factors are as large as the gradient: B (D + S) >= D S."""
    return -(-code_size * pixels // (code_size + pixels))


def dense_torch(training: Training) -> Footprint:
    """Dense gradients and torch.optim.NAdam, without weight decay, which would copy the gradients."""
    parameters = (training.weights + training.biases) * training.element_bytes
    return Footprint(TORCH_DENSE, parameters, parameters, 2 * parameters, _maps(training), temporary=parameters)


def dense(training: Training) -> Footprint:
    """Dense gradients and our NAdam."""
    parameters = (training.weights + training.biases) * training.element_bytes
    return Footprint(DENSE, parameters, parameters, _state(training), _maps(training))


def factored(training: Training, mode: str = FACTORED) -> Footprint:
    """Factored gradients and our NAdam."""
    parameters = (training.weights + training.biases) * training.element_bytes
    factors = training.codes + training.autoencoder * (training.codes + training.maps)
    gradients = (training.biases + factors) * training.element_bytes
    return Footprint(mode, parameters, gradients, _state(training), _maps(training))


def sharded(training: Training, ranks: int) -> Footprint:
    """The factored mode of one rank, which owns ceil(C / R) maps of all ranks' samples.

    Beside its own maps and codes and their gradients it holds those that it has received, and a copy of its maps in the
    order of sending.

    Args:
        training: All maps, and the batch of one rank.
        ranks: R.

    Raises:
        ValueError: No rank, or more than maps.
    """
    if not 1 <= ranks <= training.num_maps:
        raise ValueError(f"ranks must be from 1 to the number of maps {training.num_maps}, got {ranks}")
    mode = f"factored, sharded over {ranks} ranks"
    owned = replace(training, num_maps=-(-training.num_maps // ranks), batch=training.batch * ranks)
    one = factored(owned, mode)
    return replace(one, maps=one.maps + _maps(training), temporary=training.maps * training.element_bytes)


def inference(training: Training) -> Footprint:
    """The same module without gradients."""
    parameters = (training.weights + training.biases) * training.element_bytes
    return Footprint(INFERENCE, parameters, 0, 0, _maps(training) // 2)


def footprints(training: Training, ranks: int) -> list[Footprint]:
    """Every mode, bfloat16 state where the state is wider; sharded from two ranks on."""
    found = [dense_torch(training), dense(training), factored(training)]
    if training.state_bytes > _BF16_BYTES:
        found.append(factored(replace(training, state_bytes=_BF16_BYTES), FACTORED_BF16_STATE))
    if ranks > 1:
        found.append(sharded(training, ranks))
    return [*found, inference(training)]


def _maps(training: Training) -> int:
    """Maps, codes and their gradients."""
    return 2 * (training.maps + training.codes) * training.element_bytes


def _state(training: Training) -> int:
    return 2 * (training.weights + training.biases) * training.state_bytes
