"""One torch thread for every test of training/, and a face mesh that stands in for ICT-FaceKit's."""

from __future__ import annotations

import importlib.util

import pytest

from tests.training.material import stand_in_face
from training.synthetic.ict import FaceModel


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small tensors gain nothing from more, and figures must not depend on the machine's cores."""
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def face() -> FaceModel:
    return stand_in_face()
