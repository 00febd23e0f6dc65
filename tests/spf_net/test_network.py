"""The whole network: same start whatever the head, and which heads can tell sides apart."""

import pytest
import torch
from spf_net.extractor import ExtractorConfig
from spf_net.heads import HEADS, HeadConfig, HeadName
from spf_net.network import build_network, count_parameters

CIRCULAR = ExtractorConfig(widths=(4, 8), num_maps=6, downsample=4, padding_mode="circular")


@pytest.mark.parametrize(
    ("name", "blind"),
    [("square_pooling", True), ("average_pooling", True), ("spf", False), ("adaptive_flatten", False)],
)
def test_who_can_tell_an_image_from_its_roll_by_half_the_width(name: HeadName, blind: bool) -> None:
    network = build_network(CIRCULAR, HeadConfig(name=name, code_size=4), 1, 64, 7, seed=3).double().eval()
    image = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        logits, rolled = network(image).logits, network(image.roll(32, dims=3)).logits
    assert torch.allclose(logits, rolled, rtol=0, atol=1e-12) == blind


def test_all_heads_start_from_the_same_extractor() -> None:
    networks = [build_network(CIRCULAR, HeadConfig(name=name, code_size=4), 1, 64, 7, seed=5) for name in HEADS]
    first = networks[0].extractor.state_dict()
    for network in networks[1:]:
        assert all(torch.equal(first[name], tensor) for name, tensor in network.extractor.state_dict().items())


def test_the_seed_decides_the_weights_and_global_state_is_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, second, other = (build_network(CIRCULAR, HeadConfig(code_size=4), 1, 64, 7, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.classifier.weight, second.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)


def test_the_head_takes_the_grad_mode() -> None:
    network = build_network(CIRCULAR, HeadConfig(code_size=4), 1, 64, 7, 0, "factored")
    assert [module.grad_mode for module in network.modules() if hasattr(module, "grad_mode")] == ["factored"] * 2


def test_parameters_are_counted() -> None:
    network = build_network(CIRCULAR, HeadConfig(name="average_pooling"), 1, 64, 7, seed=0)
    assert count_parameters(network.classifier) == 6 * 7 + 7
    network.classifier.bias.requires_grad_(False)
    assert count_parameters(network.classifier) == 6 * 7
