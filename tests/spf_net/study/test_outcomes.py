"""Out-of-fold scores land on their images, and what is chosen is chosen by validation losses alone."""

import numpy as np
import pytest
from spf_net.study.fits import Fits
from spf_net.study.folds import Fold
from spf_net.study.lines import Line
from spf_net.study.outcomes import Outcome, choose_inside, gather
from spf_net.study.store import Record

FOLDS = [
    Fold(np.array([1, 2]), np.array([4]), np.array([0, 3])),
    Fold(np.array([0, 3]), np.array([4]), np.array([1, 2, 4])),
]
FIRST, SECOND = Line("average pooling", "image", 0.0), Line("square pooling", "image", 0.0)


def fits(value: float, images: int, loss: float) -> Fits:
    scores = np.full((images, 2), value, dtype=np.float32)
    return Fits(1e-3, (Record(scores, loss, 1, 2, 3.0, 7), Record(scores + 0.5, loss + 1, 1, 2, 5.0, 7)))


def test_test_parts_are_joined_seed_by_seed() -> None:
    outcome = gather(FIRST, [fits(1, 2, 0.1), fits(2, 3, 0.3)], FOLDS)
    assert [scores[:, 0].tolist() for scores in outcome.scores] == [[1, 2, 2, 1, 2], [1.5, 2.5, 2.5, 1.5, 2.5]]
    assert outcome.losses == pytest.approx([0.6, 0.8])
    assert (outcome.rates, outcome.parameters, outcome.seconds) == ((1e-3, 1e-3), 7, 4.0)


def test_each_fold_takes_the_candidate_with_the_lowest_loss() -> None:
    one = gather(FIRST, [fits(1, 2, 0.1), fits(2, 3, 0.9)], FOLDS)
    other = gather(SECOND, [fits(3, 2, 0.5), fits(4, 3, 0.2)], FOLDS)
    chosen = choose_inside(Line("chosen", "any", None), [one, other], FOLDS)
    assert chosen.scores[0][:, 1].tolist() == [1, 4, 4, 1, 4]
    assert chosen.chosen == (FIRST, SECOND)
    assert isinstance(chosen, Outcome)
    with pytest.raises(ValueError, match="candidates must not be empty"):
        choose_inside(Line("chosen", "any", None), [], FOLDS)
