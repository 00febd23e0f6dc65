"""Settings: what is refused, and what the command line takes."""

from typing import Any

import pytest
from spf_net.config import parse_config
from spf_net.heads import DEMO_HEADS, HEADS, HeadConfig, HeadName, build_head

from .examples import C, H, W


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"code_size": 0}, "code_size must be positive, got 0"),
        ({"reconstruction_weight": -1.0}, "reconstruction_weight must not be negative, got -1.0"),
        ({"grid": 0}, "grid must be positive, got 0"),
        ({"projections": 0}, "projections must be positive, got 0"),
        ({"name": "convolution", "frozen": True}, "frozen must be false for 'convolution', whose weights"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HeadConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "adaptive_flatten", "grid": 5}, r"grid must not be finer than the maps \(6, 4\), got 5"),
        ({"name": "dct", "code_size": 25}, "code_size must be at most the maps' 24 pixels, got 25"),
        ({"name": "spf", "init": "random"}, "init must be one of .*, got 'random'"),
        ({"name": "sum"}, "name must be one of .*, got 'sum'"),
    ],
)
def test_settings_that_do_not_fit_the_maps_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_head(HeadConfig(**settings), C, (H, W))


def test_the_demo_compares_four_of_the_heads() -> None:
    assert set(DEMO_HEADS) < set(HEADS)
    assert len(DEMO_HEADS) == 4


@pytest.mark.parametrize("name", list(HEADS))
def test_every_head_can_be_named_on_the_command_line(name: HeadName) -> None:
    assert parse_config(["--head", name]).head == HeadConfig(name=name)


def test_new_settings_on_the_command_line() -> None:
    arguments = ["--head.init=dct", "--head.frozen=true", "--head.projections=64"]
    assert parse_config(arguments).head == HeadConfig(init="dct", frozen=True, projections=64)
