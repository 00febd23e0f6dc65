"""Fits of all seeds: the rate is chosen on the validation part, and nothing that is stored is fitted again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from spf_net.fitting import FitConfig, LabelledMaps, fit
from spf_net.heads import HeadConfig
from spf_net.study import fits as module
from spf_net.study.fits import Problem, cost, fit_seeds
from spf_net.study.progress import Progress
from spf_net.study.store import Store

CONFIG = FitConfig(projection=4, epochs=3, patience=3, batch_size=16)
HEAD = HeadConfig(name="adaptive_flatten", grid=2)
RATES = (1e-5, 1e-2)


def problem(seed: int = 0) -> Problem:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, (90, 2)).astype(np.float32)
    plain = random.standard_normal((90, 3, 4, 4)).astype(np.float32)
    plain[:, 0, :, :2] += 3 * labels[:, 0, None, None]
    plain[:, 0, :, 2:] += 3 * labels[:, 1, None, None]
    maps = torch.from_numpy(plain).half()
    data = LabelledMaps(maps, maps.flip(3), torch.from_numpy(labels), (1, 0))
    train = [np.sort(random.permutation(50)[:40]) for _ in range(3)]
    return Problem({"maps": f"random {seed}"}, data, train, np.arange(50, 70), np.arange(70, 90))


def test_the_better_rate_is_taken_for_every_seed(tmp_path: Path) -> None:
    made = problem()
    found = fit_seeds(made, HEAD, CONFIG, RATES, Store(tmp_path), Progress("test", 1000))
    assert found.rate == 1e-2
    assert len(found.records) == 3
    for seed, record in enumerate(found.records):
        config = replace(CONFIG, lr=1e-2, seed=seed)
        again = fit(made.data, made.train[seed], made.validation, HEAD, config)
        assert record.validation_loss == again.validation_loss
        assert record.scores.shape == (20, 2)
    assert found.validation_loss == pytest.approx(np.mean([record.validation_loss for record in found.records]))
    # both rates with the first seed, the better one with two more
    assert len(list(tmp_path.glob("*.npz"))) == 4


def test_a_second_run_fits_nothing_and_other_rows_fit_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, store = problem(1), Store(tmp_path)
    first = fit_seeds(made, HEAD, CONFIG, RATES, store, Progress("test", 1000))
    calls = []
    monkeypatch.setattr(module, "fit", lambda *given: calls.append(given) or fit(*given))
    second = fit_seeds(made, HEAD, CONFIG, RATES, store, Progress("test", 1000))
    assert calls == []
    for one, other in zip(first.records, second.records, strict=True):
        assert np.array_equal(one.scores, other.scores)
    fit_seeds(replace(made, test=made.test[:-1]), HEAD, CONFIG, RATES, store, Progress("test", 1000))
    assert len(calls) == 4


def test_the_cost_is_what_the_progress_counts() -> None:
    made = problem()
    assert cost(made.train, CONFIG, RATES) == 4 * 40 * 3
    with pytest.raises(ValueError, match="rates and train must not be empty"):
        fit_seeds(made, HEAD, CONFIG, (), Store(Path()), Progress("test", 1))
