import pytest
import torch

from bench import communication
from bench.cases import Case
from bench.communication import LAYERS, MAIN, WAYS, Measured, measure, page

SMALL = Case(3, 8, 16, torch.float32, num_maps=4)


def _way(name):
    return next(way for way in WAYS if way.name == name)


@pytest.mark.parametrize(
    ("name", "megabytes"),
    [
        # the numbers of the design, for 2, 4, 8 and 64 ranks
        ("gradients summed, fp32", (268, 403, 470, 528)),
        ("factors gathered, fp32", (26, 78, 182, 1635)),
        ("factors gathered, bf16", (13, 39, 91, 817)),
        ("maps sharded, fp32", (26, 39, 45, 51)),
    ],
)
def test_the_encoder_sends_what_the_design_says(name, megabytes):
    computed = [_way(name).bytes_sent(MAIN, 1, ranks) / 1e6 for ranks in (2, 4, 8, 64)]
    assert computed == pytest.approx(megabytes, abs=0.6)


def test_an_auto_encoder_doubles_all_but_sharding():
    for way in WAYS:
        ratio = way.bytes_sent(MAIN, 2, 8) / way.bytes_sent(MAIN, 1, 8)
        assert ratio == pytest.approx(1 if "sharded" in way.name else 2, rel=0.02)


def test_two_processes_send_what_is_computed(monkeypatch):
    monkeypatch.setattr(communication, "RANKS", (2, 4))
    measured = measure(SMALL, 2)
    assert measured.keys() == {(layer, way.name) for layer in LAYERS for way in WAYS}
    text = page(SMALL, {2: measured})
    # all of ours with two ranks, none with four
    assert text.count("| **") == (len(WAYS) - 1) * len(LAYERS)
    assert "| 4 | 0.0 |" in text


def test_a_counter_that_disagrees_is_an_error():
    wrong = {("encoder", "maps sharded, fp32"): Measured(1, None)}
    with pytest.raises(ValueError, match="counters must give the computed number of bytes"):
        page(SMALL, {2: wrong})


def test_what_the_loopback_device_saw_is_marked_where_it_agrees():
    computed = _way("gradients summed, fp32").bytes_sent(MAIN, 1, 2)
    cells = []
    for factor in (1.005, 1.1):
        seen = {("encoder", "gradients summed, fp32"): Measured(None, factor * computed)}
        cells.append(page(MAIN, {2: seen}).split("## Encoder")[1].splitlines()[4].split(" | ")[1])
    assert cells == ["_268.4_", "268.4"]
