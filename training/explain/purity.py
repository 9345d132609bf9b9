"""5b. Does a concept's representation hold that concept, and no other? CAS, OIS and NIS.

Concept alignment: Espinosa Zarlenga et al., "Concept Embedding Models" (2022). Oracle and niche impurity: Espinosa
Zarlenga et al., "Towards Robust Metrics for Concept Representation Evaluation" (2023). Small changes for cost: one
network per representation with an output for each concept stands for a network per pair.
"""

from __future__ import annotations

import warnings

import msgspec
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import homogeneity_score, roc_auc_score
from sklearn.neural_network import MLPClassifier

from training.explain.answers import F64, Bools, Ints

_CLUSTERINGS = 6
_MEDOID_ROUNDS = 6
_ALIGNED = 250
_TEST_SHARE = 0.4
_BETAS = np.linspace(0.0, 1.0, 11)


class Purity(msgspec.Struct, frozen=True):
    """Of one kind of representation. cas: 1 is best. ois: 0 is pure. nis: .5 is pure."""

    representation: str
    pictures: int
    concepts: int
    cas: float
    ois: float
    nis: float


def measure(name: str, values: F64, present: Bools, seed: int) -> Purity:
    """values [N, K, D] of concepts that are present or not [N, K], both sides occurring in each column."""
    count, concepts = present.shape
    rng = np.random.default_rng(seed)
    some = rng.permutation(count)[:_ALIGNED]
    usable = [k for k in range(concepts) if 0 < present[some, k].sum() < len(some)]
    aligned = [alignment(values[some, k], present[some, k], rng) for k in usable]
    test = np.zeros(count, bool)
    test[rng.permutation(count)[: round(_TEST_SHARE * count)]] = True
    truth = present[:, :, None].astype(np.float64)
    return Purity(
        name, count, concepts, float(np.mean(aligned)), oracle_impurity(values, truth, present, test, seed),
        niche_impurity(values, present, test, seed),
    )  # fmt: skip


def alignment(values: F64, present: Bools, rng: np.random.Generator) -> float:
    """CAS of one concept: homogeneity of k-medoids clusters of values [N, D], averaged over k from 2 to N."""
    apart = np.linalg.norm(values[:, None] - values[None], axis=2)
    sizes = np.unique(np.linspace(2, len(values), _CLUSTERINGS).astype(int))
    found = [homogeneity_score(present, medoid_clusters(apart, int(size), rng)) for size in sizes]
    return float(np.trapezoid(found, sizes) / (sizes[-1] - sizes[0]))


def medoid_clusters(apart: F64, count: int, rng: np.random.Generator) -> Ints:
    """Cluster of each row, from distances [N, N]: nearest medoid, then the most central member, in turns."""
    medoids = rng.choice(len(apart), count, replace=False)
    for _ in range(_MEDOID_ROUNDS):
        cluster = apart[:, medoids].argmin(axis=1)
        member = np.zeros((len(apart), count))
        member[np.arange(len(apart)), cluster] = 1.0
        cost = np.where(member > 0, apart @ member, np.inf)
        # A cluster may lose all its members to another with equal distances; its medoid then stays.
        moved = np.where(member.any(axis=0), cost.argmin(axis=0), medoids)
        if (moved == medoids).all():
            break
        medoids = moved
    return np.asarray(apart[:, medoids].argmin(axis=1))


def oracle_impurity(values: F64, truth: F64, present: Bools, test: Bools, seed: int) -> float:
    """OIS: how far what representation i says of concept j (AUC [K, K]) lies from what concept i itself says of it."""
    found, expected = (predictable(each, present, test, seed) for each in (values, truth))
    return float(np.linalg.norm(found - expected) / (len(found) / 2))


def predictable(values: F64, present: Bools, test: Bools, seed: int) -> F64:
    """[K, K]: AUC on test rows of concept j, from representation i."""
    rows = [areas(predicted(values[:, i], present, test, seed), present[test]) for i in range(values.shape[1])]
    return np.stack(rows)


def niche_impurity(values: F64, present: Bools, test: Bools, seed: int) -> float:
    """NIS: AUC of a concept from all representations that correlate with it by at most beta, averaged over beta."""
    count, concepts, size = values.shape
    flat = standardised(values.reshape(count, -1), test)
    net = network(flat[~test], present[~test], seed)
    centred = present[~test] - present[~test].mean(axis=0)
    spread = np.sqrt((centred**2).sum(axis=0))
    scale = np.sqrt((flat[~test] ** 2).sum(axis=0)) + 1e-12
    # [K, K]: strongest correlation of a representation's columns with a concept.
    related = np.abs(flat[~test].T @ centred / scale[:, None] / spread).reshape(concepts, size, concepts).max(axis=1)
    found = np.zeros((len(_BETAS), concepts))
    for b, beta in enumerate(_BETAS):
        for j in range(concepts):
            kept = np.repeat(related[:, j] <= beta, size)
            said = np.asarray(net.predict_proba(flat[test] * kept))[:, j]
            found[b, j] = roc_auc_score(present[test, j], said)
    return float(np.trapezoid(found.mean(axis=1), _BETAS))


def predicted(values: F64, present: Bools, test: Bools, seed: int) -> F64:
    """[M, K]: probability of every concept on the test rows, learnt from values [N, D] on the others."""
    x = standardised(values, test)
    return np.asarray(network(x[~test], present[~test], seed).predict_proba(x[test]))


def network(x: F64, present: Bools, seed: int) -> MLPClassifier:
    """A small network with an output for each concept. It may stop before it has converged: it is small on purpose."""
    net = MLPClassifier((24,), alpha=1e-2, learning_rate_init=5e-3, max_iter=80, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return net.fit(x, present.astype(int))


def standardised(values: F64, test: Bools) -> F64:
    """By mean and spread of the rows that are learnt from."""
    mean, scale = values[~test].mean(axis=0), values[~test].std(axis=0)
    return np.asarray((values - mean) / np.where(scale > 1e-9, scale, 1.0))


def areas(scores: F64, present: Bools) -> F64:
    """AUC of each column; .5 where one side is missing."""
    columns = zip(scores.T, present.T, strict=True)
    return np.array([roc_auc_score(side, score) if 0 < side.sum() < len(side) else 0.5 for score, side in columns])


def enough(present: Bools, test_share: float = _TEST_SHARE, fewest: int = 10) -> Ints:
    """Columns with enough pictures on either side for a test part."""
    rare = np.minimum(present.sum(axis=0), (~present).sum(axis=0))
    return np.flatnonzero(rare * test_share >= fewest)


def said(found: tuple[Purity, ...]) -> str:
    """What came out."""
    parts = [
        f"{each.representation}: CAS {each.cas:.2f}, OIS {each.ois:.2f}, NIS {each.nis:.2f}"
        for each in found
    ]  # fmt: skip
    return "; ".join(parts) + "." if parts else "Too few labelled pictures for CAS, OIS and NIS."
