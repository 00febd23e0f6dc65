"""The whole network: same start whatever the head, which heads can tell sides apart, and the lung frame."""

import math

import pytest
import torch
from spf_net.extractor import ExtractorConfig
from spf_net.heads import HEADS, HeadConfig, HeadName
from spf_net.lung_frame import FrameConfig, FrameSource, resample
from spf_net.network import SPFNetwork, build_network, count_parameters

CIRCULAR = ExtractorConfig(widths=(4, 8), num_maps=6, downsample=4, padding_mode="circular")


def build(head: HeadConfig, frame: FrameSource = "image", seed: int = 3) -> SPFNetwork:
    return build_network(CIRCULAR, head, 1, 64, 7, seed, frame=FrameConfig(frame, margin=0.1))


def tiny_head(name: HeadName) -> HeadConfig:
    return HeadConfig(name=name, code_size=4, projections=16)


def images_and_lungs(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(batch, 1, 64, 64, generator=generator)
    lungs = torch.tensor([[0.1, 0.2, 0.3, 0.6], [0.55, 0.2, 0.35, 0.6]]).repeat(batch, 1, 1)
    return images, lungs


@pytest.mark.parametrize(
    ("name", "blind"),
    [("square_pooling", True), ("average_pooling", True), ("spf", False), ("adaptive_flatten", False)],
)
def test_who_can_tell_an_image_from_its_roll_by_half_the_width(name: HeadName, blind: bool) -> None:
    network = build(tiny_head(name)).double().eval()
    image = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        logits, rolled = network(image).logits, network(image.roll(32, dims=3)).logits
    assert torch.allclose(logits, rolled, rtol=0, atol=1e-12) == blind


@pytest.mark.parametrize("frame", ["image", "lungs", "predicted"])
@pytest.mark.parametrize("name", HEADS)
def test_every_head_runs_and_learns_in_every_frame(name: HeadName, frame: FrameSource) -> None:
    network = build(tiny_head(name), frame)
    images, lungs = images_and_lungs()
    logits, loss = network(images, lungs)
    assert logits.shape == (2, 7)
    (logits.square().sum() + loss).backward()
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in learning)
    assert network.extractor.layers[0].weight.grad.abs().sum() > 0


def test_the_head_sees_the_maps_of_the_frame() -> None:
    images, lungs = images_and_lungs()
    plain, framed, predicted = (build(tiny_head("spf"), frame).eval() for frame in ("image", "lungs", "predicted"))
    maps = plain.extractor(images)
    assert torch.equal(plain.maps(images, lungs), maps)
    assert torch.equal(framed.maps(images, lungs), resample(maps, lungs, 0.1))
    assert predicted.lung_regressor is not None
    seen = predicted.lung_regressor(images)
    assert torch.equal(predicted.maps(images), resample(maps, seen, 0.1))
    for network in (plain, framed, predicted):
        expected = network.classifier(network.head(network.maps(images, lungs)).features)
        assert torch.equal(network(images, lungs).logits, expected)


def test_a_position_in_the_lung_gives_the_same_logits_wherever_the_lungs_are() -> None:
    network = build(tiny_head("spf"), "lungs").double().eval()
    images, lungs = (tensor.double() for tensor in images_and_lungs())
    lungs[..., 0] *= 0.7
    lungs[..., 2] *= 0.7
    with torch.no_grad():
        # The extractor is blind to position, and 8 columns are whole pixels of its maps.
        moved = network(images.roll(8, dims=3), lungs + torch.tensor([8 / 64, 0, 0, 0])).logits
        stale = network(images.roll(8, dims=3), lungs).logits
        logits = network(images, lungs).logits
    torch.testing.assert_close(moved, logits, rtol=0, atol=1e-6)
    assert not torch.allclose(stale, logits, rtol=0, atol=1e-4)


def test_an_unknown_box_is_given_as_nan_and_none_is_refused() -> None:
    images, lungs = images_and_lungs()
    lungs[1, 0] = math.nan
    plain, framed = build(tiny_head("spf")).eval(), build(tiny_head("spf"), "lungs").eval()
    logits = framed(images, lungs).logits
    torch.testing.assert_close(logits[1], plain(images).logits[1])
    assert not torch.allclose(logits[0], plain(images).logits[0])
    with pytest.raises(ValueError, match=r"lungs must be boxes .* for the frame 'lungs', got None"):
        framed(images)


def test_the_lung_regressor_is_frozen_and_saved_with_the_network() -> None:
    plain, predicted = build(tiny_head("spf")), build(tiny_head("spf"), "predicted")
    assert count_parameters(plain) == count_parameters(predicted)
    added = predicted.state_dict().keys() - plain.state_dict().keys()
    assert added
    assert all(name.startswith("lung_regressor.") for name in added)
    assert all(torch.equal(tensor, predicted.state_dict()[name]) for name, tensor in plain.state_dict().items())


def test_all_heads_start_from_the_same_extractor() -> None:
    networks = [build(tiny_head(name), seed=5) for name in HEADS]
    first = networks[0].extractor.state_dict()
    for network in networks[1:]:
        assert all(torch.equal(first[name], tensor) for name, tensor in network.extractor.state_dict().items())


def test_the_seed_decides_the_weights_and_global_state_is_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, second, other = (build(tiny_head("spf"), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.classifier.weight, second.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)


def test_the_head_takes_the_grad_mode() -> None:
    network = build_network(CIRCULAR, tiny_head("spf"), 1, 64, 7, 0, "factored")
    assert [module.grad_mode for module in network.modules() if hasattr(module, "grad_mode")] == ["factored"] * 2


def test_parameters_are_counted() -> None:
    network = build(tiny_head("average_pooling"))
    assert count_parameters(network.classifier) == 6 * 7 + 7
    network.classifier.bias.requires_grad_(False)
    assert count_parameters(network.classifier) == 6 * 7
