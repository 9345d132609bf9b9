"""What truly contributed to engagement in simulated sessions, against what a head says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata, spearmanr

from calibration.head import Head, Session
from engines.voice import CONCEPTS as HEARD
from training.concepts import NAMES
from training.metrics import pearson
from training.timed.plots import Sizes

F64 = npt.NDArray[np.float64]


class Cause(msgspec.Struct, frozen=True):
    """A concept in simulated sessions: standard deviation of its true and of its found contribution on validation
    sessions, and their correlation over time; NaN where it truly contributes nothing."""

    concept: str
    true: float
    found: float
    r: float


class Recovery(msgspec.Struct, frozen=True):
    """How well known causes were found again. rank_r: Spearman correlation of true and found sizes over the concepts
    that truly contribute. rank_all: the same over all concepts, and rank_ceiling what it would be if every cause were
    found in its order above the others, which have no order among themselves. wrong_signs: causes whose found
    contribution runs against the true one."""

    causes: tuple[Cause, ...]
    rank_r: float
    rank_all: float
    rank_ceiling: float
    wrong_signs: tuple[str, ...]


def recovery_of(head: Head, valid: Sequence[Session], files: Sequence[Path]) -> Recovery | None:
    """Of a head that sees and hears; None where nobody knows the truth."""
    causes = causes_of(head, valid, files)
    if not causes:
        return None
    sizes = np.array([(each.true, each.found) for each in causes])
    wrong = tuple(each.concept for each in causes if each.r < 0)
    return Recovery(causes, ranked(sizes[sizes[:, 0] > 0]), ranked(sizes), rank_ceiling(sizes), wrong)


def causes_of(head: Head, valid: Sequence[Session], files: Sequence[Path]) -> tuple[Cause, ...]:
    """True (truth.npz of each session) against found contributions, of every concept; () where nobody knows the
    truth."""
    if not all(file.is_file() for file in files):
        return ()
    true: dict[str, list[F64]] = {}
    for file, session in zip(files, valid, strict=True):
        with np.load(file, allow_pickle=False) as truth:
            for name, values in zip(truth["names"].tolist(), truth["contributions"].T, strict=True):
                true.setdefault(str(name), []).append(values[: len(session.label)].astype(np.float64))
    found: dict[str, F64] = {}
    for i, names in enumerate((NAMES, HEARD)):
        shares = np.concatenate([head.branches[i].contributions(each.taps[i]) for each in valid])
        found |= dict(zip(names, shares.T, strict=True))
    listed = []
    for name, ours in found.items():
        theirs = np.concatenate(true[name]) if name in true else np.zeros(len(ours))
        r = pearson(ours, theirs) if name in true else float("nan")
        listed.append(Cause(name, float(theirs.std()), float(ours.std()), r))
    return tuple(listed)


def shown_by(file: Path, count: int) -> F64:
    """What a simulated person truly showed [count, K], from truth.npz."""
    with np.load(file, allow_pickle=False) as truth:
        return np.asarray(truth["concepts"][:count], np.float64)


def sizes_of(causes: Sequence[Cause]) -> Sizes:
    """The largest first."""
    order = sorted(causes, key=lambda each: (-each.true, -each.found))
    return Sizes(
        tuple(each.concept for each in order), tuple(each.true for each in order), tuple(each.found for each in order)
    )


def ranked(sizes: F64) -> float:
    """Spearman correlation of the two columns."""
    return float(spearmanr(sizes[:, 0], sizes[:, 1]).statistic)


def rank_ceiling(sizes: F64) -> float:
    """See Recovery: ranks of the true sizes against an order of all, where ties have none."""
    ranks = rankdata(sizes[:, 0])
    return float(np.std(ranks) / np.std(np.arange(len(ranks))))
