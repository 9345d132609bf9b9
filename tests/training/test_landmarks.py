"""The landmark head: places that can lie between cells, on grids of any size; a network that has it says so."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("numba")

import torch

from training.agcm.landmarks import Landmarks
from training.agcm.model import Agcm, AgcmConfig
from training.agcm.system import Deployed


@pytest.mark.parametrize("cells", [4, 7])
def test_a_point_is_the_mean_place_under_its_map(cells: int) -> None:
    head = Landmarks(5)
    with torch.no_grad():
        head.maps.weight.copy_(torch.eye(5)[:, :, None, None])
        head.maps.bias.zero_()
        x = torch.full((1, 5, cells, cells), -50.0)
        x[0, :, 1, 1] = x[0, :, 1, 2] = 0.0
        points = head(x)
    expected = np.array([2.0 / cells, 1.5 / cells], np.float32)  # between two cells of a row
    np.testing.assert_allclose(points[0], np.tile(expected, (5, 1)), atol=1e-5)


def test_a_network_with_landmarks_publishes_them_and_one_without_does_not() -> None:
    with_them, without = (
        Agcm(AgcmConfig(3, 9, deep_channels=0, backbone="vit-tiny", landmarks=flag)).eval() for flag in (True, False)
    )
    assert with_them.names == (*without.names, "landmarks")
    said = Deployed(with_them)(torch.zeros(2, 1, 64, 64))
    assert len(said) == len(with_them.names)
    assert said[-1].shape == (2, 5, 2)
    assert ((said[-1] > 0) & (said[-1] < 1)).all()
    assert len(Deployed(without)(torch.zeros(2, 1, 64, 64))) == len(without.names)
