"""One training step of the paper's network at its full size, on the CPU, from random weights."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from spf_net.config import RunConfig, parse_config
from spf_net.losses import masked_bce
from spf_net.network import build_network

from spf_kernels.optim import NAdam

CONFIG = Path(__file__).resolve().parents[2] / "python" / "configs" / "paper.yaml"
LABELS = 57


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return parse_config([f"--config={CONFIG}"])


def test_the_recipe_is_the_papers(config: RunConfig) -> None:
    training, optimizer = config.training, config.optimizer
    assert config.data.image_size == 512
    assert (config.extractor.num_maps, config.head.name, config.head.code_size) == (128, "spf", 128)
    assert config.extractor.pretrained
    assert not config.extractor.freeze_backbone
    assert (optimizer.name, optimizer.lr, optimizer.eps) == ("nadam", 2e-6, 1e-7)
    assert (training.devices * training.batch_size, training.devices, training.epochs) == (12, 2, 30)
    assert (training.split, training.rotation, training.shift) == ((0.7, 0.1, 0.2), 10, 0.1)


def test_one_step_at_full_size(config: RunConfig) -> None:
    extractor = replace(config.extractor, pretrained=False)
    network = build_network(extractor, config.head, 1, config.data.image_size, LABELS, 0, config.optimizer.grad_mode)
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(2, 1, 512, 512, generator=generator)
    labels = torch.randint(2, (2, LABELS), generator=generator).float()
    watched = {
        "backbones.0.": network.extractor,
        "backbones.1.": network.extractor,
        "pyramids.": network.extractor,
        "layers.": network.extractor,
        "flatten.encoder.weight": network.head,
        "flatten.decoder.weight": network.head,
        "weight": network.classifier,
    }
    parameters = {
        prefix: next(value for name, value in module.named_parameters() if name.startswith(prefix))
        for prefix, module in watched.items()
    }
    before = {prefix: parameter.detach().clone() for prefix, parameter in parameters.items()}
    optimizer = NAdam(network.parameters(), config.optimizer.lr, config.optimizer.betas, config.optimizer.eps)

    maps = network.extractor(images)
    features, reconstruction = network.head(maps)
    logits = network.classifier(features)
    loss = masked_bce(logits, labels) + config.head.reconstruction_weight * reconstruction
    loss.backward()
    optimizer.step()

    assert maps.shape == (2, 128, 64, 64)
    assert features.shape == (2, 128 * 128)
    assert logits.shape == (2, LABELS)
    assert loss.isfinite()
    assert [name for name, value in network.named_parameters() if value.grad is None] == []
    for prefix, parameter in parameters.items():
        assert not torch.equal(before[prefix], parameter), prefix
        assert parameter.isfinite().all(), prefix
