"""Means with a bootstrap interval. What belongs together (the pictures of a person) is drawn together."""

from __future__ import annotations

import msgspec
import numpy as np

from training.explain.answers import F64, Ints

DRAWS = 1000
_LEVEL = 0.95
_SEED = 20161


class Estimate(msgspec.Struct, frozen=True):
    """A figure and its 95 % interval (percentile bootstrap, Efron and Tibshirani 1993)."""

    value: float
    low: float
    high: float

    def text(self, digits: int = 2) -> str:
        """Such as "0.41 (0.38–0.44)", with a true minus sign, and with "to" where a minus would meet the dash."""
        between = "–" if self.low >= 0 else " to "
        return f"{self.value:.{digits}f} ({self.low:.{digits}f}{between}{self.high:.{digits}f})".replace("-", "−")

    def percent(self, digits: int = 0) -> str:
        """The same times 100."""
        value, low, high = (100 * each for each in (self.value, self.low, self.high))
        return f"{value:.{digits}f} % ({low:.{digits}f}–{high:.{digits}f})"


def mean(values: F64, groups: Ints | None = None) -> Estimate:
    """The mean of [N]. groups [N]: whole groups are drawn, otherwise single values."""
    return ratio(values, np.ones(len(values)), groups)


def ratio(above: F64, below: F64, groups: Ints | None = None) -> Estimate:
    """sum(above) / sum(below) of [N] and [N]; see `mean` for groups. Raises ValueError if there is nothing."""
    if not len(above) or not below.sum() > 0:
        raise ValueError("an interval needs at least one value")
    if groups is not None:
        names, index = np.unique(groups, return_inverse=True)
        above, below = (np.bincount(index, each, len(names)).astype(np.float64) for each in (above, below))
    rng = np.random.default_rng(_SEED)
    drawn = rng.multinomial(len(above), np.full(len(above), 1 / len(above)), DRAWS)
    bottom = drawn @ below
    tops = (drawn @ above)[bottom > 0] / bottom[bottom > 0]
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(tops, (tail, 1 - tail))
    return Estimate(float(above.sum() / below.sum()), float(low), float(high))
