"""What a training step is fed: mirrored labels, shares of the sources, the rate, the weight of a score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("numba")
pytest.importorskip("sklearn")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.preprocess import TEMPLATE
from tests.training.material import learnable
from training import feed
from training.concepts import INDEX, MIRRORED
from training.data.augment import Augment
from training.data.samples import MARGIN_PX, blank
from training.experiment import Phase

few = settings(max_examples=40, deadline=None)


@few
@given(st.integers(0, 10_000))
def test_a_mirrored_picture_has_mirrored_labels(seed: int) -> None:
    """The light comes from the side the head is turned to: whatever was mirrored, that stays true."""
    samples = learnable(8)
    trust = samples.weights.copy()
    trust[:, INDEX["head_left"]] = np.where(np.arange(8) % 2, 0.25, 1.0)
    samples = replace(samples, weights=trust)
    rng = np.random.default_rng(seed)
    crops, targets = feed.make_batch(samples, np.arange(8), 64, rng, np.ones(8, np.float32), Augment())
    # What hides a part of the picture covers fewer than half of the rows.
    lit_right = (crops[:, 0, :, 40:].mean(2) - crops[:, 0, :, :24].mean(2)).median(1).values > 0
    left, right = INDEX["head_left"], INDEX["head_right"]
    assert torch.equal(targets.concepts[:, left] == 1, lit_right)
    assert torch.equal(targets.concepts[:, left], 1 - targets.concepts[:, right])
    mirrored = targets.concepts[:, left] != torch.from_numpy(samples.concepts[:, left])
    expected = np.where(mirrored[:, None], samples.weights[:, np.array(MIRRORED)], samples.weights)
    np.testing.assert_array_equal(targets.concept_weights, expected)
    np.testing.assert_array_equal(targets.votes, samples.votes)
    assert crops.shape == (8, 1, 64, 64)


def lit(points: np.ndarray) -> np.ndarray:
    """A stored crop with a spot at each of five points [5, 2], in its pixels; the eyes the brightest."""
    picture = np.zeros((144, 144), np.uint8)
    for (x, y), level in zip(points.round().astype(int), (255, 220, 120, 80, 50), strict=True):
        picture[y - 2 : y + 3, x - 2 : x + 3] = level
    return picture


@few
@given(st.integers(0, 10_000))
def test_the_points_are_where_the_face_is_after_it_was_turned_and_mirrored(seed: int) -> None:
    stored = lit(TEMPLATE * 112 + MARGIN_PX)
    samples = blank(np.stack([stored] * 4), np.array([True, True, True, False]))
    how = Augment(contrast=0, brightness=0, gamma=0, blur_share=0, hide_share=0)
    crops, targets = feed.make_batch(samples, np.arange(4), 112, np.random.default_rng(seed), np.ones(4), how)
    levels = (crops[:, 0] - crops.min()).numpy()
    for row in range(3):
        assert not targets.points[row].isnan().any()
        seen = levels[row] / levels[row].max()
        for (x, y), level in zip(targets.points[row].numpy() * 112, (255, 220, 120, 80, 50), strict=True):
            here = seen[round(float(y)), round(float(x))] * 255
            # In a mirror the left eye, the brighter one, stands where the right one is and is the right one.
            assert any(
                abs(here - bright) < 40 for bright in (level, {255: 220, 220: 255, 80: 50, 50: 80}.get(level, 120))
            )
    assert targets.points[3].isnan().all(), "cut at a guess"
    mixed = feed.make_batch(samples, np.arange(4), 112, np.random.default_rng(seed), np.ones(4), Augment(mixup=0.4))[1]
    assert mixed.points.isnan().all(), "two faces in one picture"


def test_any_number_of_loaders_makes_the_same_batches() -> None:
    samples = learnable(24)
    material = feed.Material(samples, [(24, 1.0)], np.ones(24, np.float32), {}, [])
    first = feed.Step(0, 0, 0, Phase(1, 48, 8))
    plain, loaded = (list(feed.epoch(material, first, 3, 0, 1, Augment(), loaders)) for loaders in (0, 2))
    assert [step for step, _, _ in plain] == [step for step, _, _ in loaded]
    assert [step.number for step, _, _ in plain] == [0, 1, 2]
    for (_, crops, targets), (_, others, likewise) in zip(plain, loaded, strict=True):
        assert torch.equal(crops, others)
        for one, other in zip(targets, likewise, strict=True):
            np.testing.assert_array_equal(one, other)


def test_mixed_pictures_have_mixed_labels_and_what_is_unknown_of_one_stays_unknown() -> None:
    rng = np.random.default_rng(0)
    pictures, votes = rng.random((6, 1, 2, 2)), np.eye(6)
    votes[2] = np.nan
    mixed, labels = feed.mixed([pictures, votes], 0.4, rng)
    assert mixed.dtype == labels.dtype == np.float32
    own = np.diagonal(labels)
    known = ~np.isnan(labels).any(1)
    assert not known[2] and 4 <= known.sum() <= 5
    assert (own[known] >= 0.5).all(), "the first picture has the larger share"
    assert labels[known].sum(1) == pytest.approx(1.0)
    for row in np.flatnonzero(known):
        np.testing.assert_allclose(mixed[row], np.tensordot(labels[row], pictures, 1), atol=1e-6)


@few
@given(
    st.lists(st.tuples(st.integers(1, 40), st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0])), min_size=1, max_size=3),
    st.integers(2, 9), st.integers(0, 5),
)  # fmt: skip
def test_an_epoch_takes_each_source_by_its_share(shares: list[tuple[int, float]], size: int, epoch: int) -> None:
    total = sum(count for count, _ in shares)
    samples = blank(np.zeros((total, 1, 1), np.uint8), np.ones(total, bool))
    phase = Phase(1, 48, size)
    epochs = [list(feed.batches(samples, shares, feed.Step(0, epoch, 0, phase), seed)) for seed in (1, 1, 2)]
    wanted = sum(round(count * share) for count, share in shares)
    rows = np.concatenate([*epochs[0], np.zeros(0, int)]).astype(int)
    assert len(epochs[0]) == wanted // size
    assert all(len(batch) == size for batch in epochs[0])
    start = 0
    for count, share in shares:
        seen = np.bincount(rows[(rows >= start) & (rows < start + count)] - start, minlength=count)
        assert seen.max(initial=0) <= np.ceil(share)
        start += count
    assert all(np.array_equal(a, b) for a, b in zip(epochs[0], epochs[1], strict=True)), "the seed decides"


def test_the_rate_warms_up_then_falls_to_a_hundredth() -> None:
    rates = [feed.rate(i, 200) for i in range(200)]
    assert rates[:12] == pytest.approx([(i + 1) / 12 for i in range(12)])
    assert max(rates) == 1.0
    assert rates[12:] == sorted(rates[12:], reverse=True)
    assert rates[-1] == pytest.approx(0.01, abs=1e-3)
    assert feed.rate(0, 1) == 1.0


def test_rare_scores_weigh_more_and_unknown_ones_nothing() -> None:
    weights = feed.score_weights(np.array([0.0, 1.0, 1.0, 1.0, np.nan], np.float32))
    np.testing.assert_allclose(weights, [2.0, (3 / 4) ** -0.5, (3 / 4) ** -0.5, (3 / 4) ** -0.5, 0.0], rtol=1e-6)
