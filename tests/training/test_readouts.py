"""Answers of systems without concepts, and how far their maps agree with the Action Units of an expression."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from engines.base import EngineError
from engines.spec import HeadSpec
from training.agcm.losses import expression_maps
from training.concepts import EXPRESSIONS, NAMES
from training.readouts import readouts
from training.systems.cosine import cosines


def test_heads_alone_are_an_answer_without_contributions() -> None:
    heads = HeadSpec(("a", "b"), (0.0, 0.0, 0.0), (), (0.3, 0.6), temperature=2.0)
    (first, second) = readouts({"heads": np.float32([[0.7, 2.0, 0.0], [0.1, 0.0, 0.0]])}, heads)
    assert first.score == pytest.approx(0.7)
    np.testing.assert_allclose(first.expressions, [np.e / (1 + np.e), 1 / (1 + np.e)])
    np.testing.assert_allclose(second.expressions, [0.5, 0.5])
    assert first.activation.shape == (0,)
    assert first.contributions.shape == (0, 3)
    for wrong in ({}, {"heads": np.float32([[np.nan, 0.0, 0.0]])}):
        with pytest.raises(EngineError, match="no finite 'heads'"):
            readouts(wrong, heads)


def test_cosines_by_hand() -> None:
    """1 for the map of the own expression whatever its scale and offset; faces without an AU map do not count."""
    regions = np.random.default_rng(0).random((len(NAMES), 5, 5)).astype(np.float32) ** 4
    own = expression_maps(torch.from_numpy(regions)).numpy()
    own -= own.min((1, 2), keepdims=True)
    happy, neutral, contempt = (EXPRESSIONS.index(name) for name in ("happiness", "neutral", "contempt"))
    maps = np.zeros((3, 9, 5, 5), np.float32)
    maps[0, 1 + happy] = 7 * own[happy] - 3
    attention = np.stack([np.ones((5, 5), np.float32)] * 3)
    found = cosines(maps, attention, np.array([happy, neutral, contempt]), regions)
    assert found.pictures == 1
    truth = expression_maps(torch.from_numpy(regions)).numpy()[happy]
    low = own[happy]
    by_hand = float((low * truth).sum() / np.linalg.norm(low) / np.linalg.norm(truth))
    assert found.cam_cos == pytest.approx(by_hand, abs=1e-5)
    assert found.att_cos == pytest.approx(float(truth.sum() / 5 / np.linalg.norm(truth)), abs=1e-5)
    assert np.isnan(cosines(maps[1:], attention[1:], np.array([neutral, contempt]), regions).cam_cos)
