"""What is new is seen, what is kept is not, and key frames are told apart."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.allocations import NewBytes, new_bytes
from benchmarks.frame_path import Meter


@pytest.fixture
def meter() -> Iterator[Meter]:
    tracemalloc.start()
    yield Meter()
    tracemalloc.stop()


def test_an_array_that_is_made_is_seen_even_if_it_is_gone_again(meter: Meter) -> None:
    with meter.at("crop", 0):
        np.zeros(100_000, np.uint8)
    assert 100_000 <= meter.bytes["crop"][0] < 110_000


def test_memory_that_is_used_again_is_not_new(meter: Meter) -> None:
    kept = np.zeros(100_000, np.uint8)
    with meter.at("crop", 0):
        kept[:] = 1
    with meter.at("tensor", 0):
        del kept
    assert meter.bytes["crop"][0] < 5_000
    assert meter.bytes["tensor"][0] < 5_000


def test_it_is_the_most_at_one_moment(meter: Meter) -> None:
    with meter.at("infer", 7):
        for _ in range(10):
            np.zeros(50_000, np.uint8)
    assert 50_000 <= meter.bytes["infer"][7] < 110_000


def test_key_frames_and_the_first_frames_are_told_apart() -> None:
    by_frame = {0: 9_000_000, 1: 9_000_000, 2: 10, 3: 500, 4: 20, 5: 30, 6: 700}
    assert new_bytes(by_frame, {0, 3, 6}, 2) == NewBytes(between=20, on_key_frames=600, largest=700)
    assert new_bytes(by_frame, set(), 7) == NewBytes(None, None, None)
