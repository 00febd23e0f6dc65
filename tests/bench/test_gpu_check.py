"""The check finds what it looks for; the kernels themselves are rehearsed by `make gpu-smoke`."""

import pytest
import torch

pytest.importorskip("triton", reason="the check imports the Triton backend")

from bench.gpu import check

EXACT = torch.linspace(1, 2, 8, dtype=torch.float64)


def _check(kernel, repeats=2):
    return check.check_kernel(kernel, lambda: (EXACT,), 1e-6, repeats, graph=True)


def test_a_right_result_passes():
    error, wrong = _check(lambda: (EXACT.float(),))
    assert wrong == []
    assert 0 < error < 1e-6


def test_an_output_that_was_not_written_is_found():
    _, wrong = _check(lambda: (torch.empty(8),))
    assert "NaN: not every element was written" in wrong
    assert any(what.startswith("error nan") for what in wrong)


def test_a_wrong_result_is_found():
    _, wrong = _check(lambda: (EXACT.float() * 1.01,))
    assert wrong == ["error 1.00e-02 above 1e-06"]


def test_a_result_that_changes_is_found():
    generator = torch.Generator().manual_seed(0)
    _, wrong = _check(lambda: (EXACT.float() + 1e-7 * torch.rand(8, generator=generator),))
    assert wrong == ["other bits on a repeat"]


def test_poisoning_ends_with_the_kernel():
    with check.poisoned():
        assert torch.empty(4).isnan().all()
    assert not torch.are_deterministic_algorithms_enabled()
