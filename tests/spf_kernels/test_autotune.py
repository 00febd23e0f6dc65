"""SPF_AUTOTUNE=1, without a card: what is searched, what is chosen, what the trial call gets."""

import pytest

pytest.importorskip("triton", reason="triton is not installed: nothing to tune")

import triton

from spf_kernels.backends.triton import autotune
from spf_kernels.backends.triton.launch import Card, configure

KEY = ("decode", Card("sm_90", 132), "half", 2, 12, 128, 128, 4096)


@pytest.fixture(autouse=True)
def nothing_found(monkeypatch):
    monkeypatch.setattr(autotune, "_found", {})


def _timed(monkeypatch, seconds):
    """A clock that asks `seconds` what the configuration on trial takes."""
    tried = []

    def do_bench(call, **_options):
        call()
        tried.append(autotune._trial)
        return seconds(autotune._trial)

    monkeypatch.setattr(triton.testing, "do_bench", do_bench)
    return tried


def test_the_fastest_is_chosen_once_and_kept(monkeypatch):
    tried = _timed(monkeypatch, lambda config: config.block_s + config.warps + config.stages / 10)
    seen = []
    best = autotune.choose(KEY, lambda: seen.append(autotune.choose(KEY, lambda: None)))
    assert seen == tried
    assert tried[0] == configure(*KEY)
    assert len(set(tried)) == len(tried) > 10
    assert (best.block_s, best.warps, best.stages) == (32, 4, 2)
    assert autotune.choose(KEY, lambda: pytest.fail("searched again")) == best


def test_what_does_not_fit_the_card_is_passed_over(monkeypatch):
    def seconds(config):
        if config.warps == 4:
            raise triton.OutOfResources(2, 1, "shared memory")
        return 1.0

    _timed(monkeypatch, seconds)
    assert autotune.choose(KEY, lambda: None).warps == 8


def test_a_card_that_runs_nothing_is_an_error_and_leaves_no_trial(monkeypatch):
    def seconds(_config):
        raise triton.OutOfResources(2, 1, "shared memory")

    _timed(monkeypatch, seconds)
    with pytest.raises(RuntimeError, match="no configuration"):
        autotune.choose(KEY, lambda: None)
    assert autotune._trial is None
