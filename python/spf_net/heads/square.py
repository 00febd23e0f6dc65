"""Global square pooling, the head of SPF's predecessor, in both its readings."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from spf_net.heads.base import Head, HeadConfig, HeadEvidence, Split, weigh


class MomentHead(Head):
    """Features that are linear in the maps' second moment M = X X^T / S, blind to where anything is.

    The features are products of two maps and differ in size by orders of magnitude, so a LayerNorm without parameters
    puts each image's on one scale.
    """

    def __init__(self, num_maps: int, map_size: tuple[int, int], features: int) -> None:
        super().__init__(num_maps, map_size, features)
        self.norm = nn.LayerNorm(features, elementwise_affine=False)

    @abstractmethod
    def pool(self, moments: Tensor) -> Tensor:
        """Moments (B, C, C) -> features (B, features) before the LayerNorm."""

    @abstractmethod
    def quadratic_forms(self, rows: Tensor) -> Tensor:
        """A (K, C, C), with `rows @ pool(M)` = sum of A * M for the classifier's rows (K, features)."""

    def flatten_maps(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, features)."""
        features: Tensor = self.norm(self.pool(second_moments(maps)))
        return features

    def split(self, maps: Tensor) -> Split:
        """A pixel x_s, the vector of its C maps, has the share x_s^T A x_s / S / deviation.

        The LayerNorm's mean and deviation are taken as the image's constants: they depend on all pixels, so this is an
        exact split of the logit's arithmetic and not its derivative. The mean makes the bias share.
        """
        pooled = self.pool(second_moments(maps))
        mean = pooled.mean(1, keepdim=True)
        deviation = ((pooled - mean).square().mean(1, keepdim=True) + self.norm.eps).sqrt()
        pixels = maps.flatten(2)
        scaled = pixels / (deviation.unsqueeze(2) * pixels.shape[2])

        def split_rows(rows: Tensor) -> HeadEvidence:
            forms = self.quadratic_forms(rows)
            # One tall matrix: a batch of them would copy the maps for each label.
            products = (forms.flatten(0, 1) @ scaled).unflatten(1, forms.shape[:2]).unflatten(3, self.map_size)
            return HeadEvidence(weigh(products, maps), -mean / deviation * rows.sum(1))

        return split_rows


class SquarePoolingHead(MomentHead):
    """The whole second moment: 128 maps give the 16,384 numbers of the SPF paper's section 2.2.

    Attributes:
        features: C * C.
    """

    def __init__(self, config: HeadConfig, num_maps: int, map_size: tuple[int, int]) -> None:  # noqa: ARG002
        super().__init__(num_maps, map_size, num_maps**2)

    def pool(self, moments: Tensor) -> Tensor:
        """(B, C, C) -> (B, C*C)."""
        return moments.flatten(1)

    def quadratic_forms(self, rows: Tensor) -> Tensor:
        """(K, C*C) -> (K, C, C)."""
        forms: Tensor = rows.unflatten(1, (self.num_maps, self.num_maps))
        return forms


class ProjectedSquarePoolingHead(MomentHead):
    """A 1x1 convolution without bias, squared and averaged over each channel (Yu and Salzmann, ECCV 2018).

    mean over s of (w^T x_s)^2 = w^T M w, so the convolution's output, gigabytes at full size, is never made.

    Attributes:
        features: The convolution's channels, 16,384 by default.
        projection: Its weight (features, C).
    """

    def __init__(self, config: HeadConfig, num_maps: int, map_size: tuple[int, int]) -> None:
        super().__init__(num_maps, map_size, config.projections)
        self.projection = nn.Linear(num_maps, config.projections, bias=False)

    def pool(self, moments: Tensor) -> Tensor:
        """(B, C, C) -> (B, features)."""
        weight = self.projection.weight.to(moments.dtype)
        return (weight @ moments * weight).sum(2)

    def quadratic_forms(self, rows: Tensor) -> Tensor:
        """(K, features) -> (K, C, C): W^T diag(row) W."""
        weight = self.projection.weight.to(rows.dtype)
        return torch.stack([weight.T * row @ weight for row in rows])


def second_moments(maps: Tensor) -> Tensor:
    """(B, C, H, W) -> X X^T / S (B, C, C)."""
    pixels = maps.flatten(2)
    return pixels @ pixels.transpose(1, 2) / pixels.shape[2]
