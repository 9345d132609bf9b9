"""One thread for every test of training/, and a face mesh that stands in for ICT-FaceKit's."""

from __future__ import annotations

import importlib
import importlib.util

import pytest

from tests.training.material import stand_in_face
from training.synthetic.ict import FaceModel


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small tensors gain nothing from more, and a thread that waits for another only burns the second core."""
    for name in ("torch", "numba"):
        if importlib.util.find_spec(name):
            importlib.import_module(name).set_num_threads(1)


@pytest.fixture(scope="session")
def face() -> FaceModel:
    return stand_in_face()
