"""What is new is seen, what is kept is not, and key frames are told apart."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.allocations import NewBytes, beside, new_bytes, verdict
from benchmarks.frame_path import Meter, StepMeter


@pytest.fixture
def meter() -> Iterator[Meter]:
    tracemalloc.start()
    yield Meter()
    tracemalloc.stop()


@pytest.fixture
def steps() -> Iterator[StepMeter]:
    tracemalloc.start()
    yield StepMeter()
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


def test_a_block_is_seen_that_lives_for_one_call(steps: StepMeter) -> None:
    with steps.at("crop", 3):
        most = int(np.ones(50_000, np.uint8).max())
    assert most == 1
    assert 50_000 <= steps.bytes["crop"][3] < 51_000


def test_many_blocks_are_not_one(steps: StepMeter) -> None:
    with steps.at("crop", 0):
        kept = [np.zeros(10_000, np.uint8) for _ in range(10)]
    assert len(kept) == 10
    assert 10_000 <= steps.bytes["crop"][0] < 11_000


def test_what_is_given_back_hides_no_block_of_the_same_line(steps: StepMeter) -> None:
    def made() -> int:
        return len(np.zeros(60_000, np.uint8))

    gone: list[object] = [np.zeros(70_000, np.uint8)]
    with steps.at("crop", 0):
        made()
        last = (gone.clear(), np.zeros(40_000 + made(), np.uint8))[1]
    assert last.size == 100_000
    assert 100_000 <= steps.bytes["crop"][0] < 101_000


def test_a_stage_that_takes_nothing_has_next_to_nothing(steps: StepMeter) -> None:
    kept = np.zeros(100_000, np.uint8)
    with steps.at("luma", 0):
        kept[:] = 1
    assert steps.bytes["luma"][0] < 1_000


def test_nothing_is_traced_afterwards(steps: StepMeter) -> None:
    tracer = sys.gettrace()
    with pytest.raises(ValueError, match="a stage that fails"), steps.at("infer", 0):
        assert not gc.isenabled()
        raise ValueError("a stage that fails")
    assert sys.gettrace() is tracer
    assert gc.isenabled()
    assert tracer is not None or sys._getframe().f_trace is None
    assert 0 not in steps.bytes["infer"]


def test_key_frames_and_the_first_frames_are_told_apart() -> None:
    by_frame = {0: 9_000_000, 1: 9_000_000, 2: 10, 3: 500, 4: 20, 5: 30, 6: 700}
    blocks = {0: 9_000, 1: 9_000, 2: 5, 3: 400, 4: 7, 5: 6, 6: 300}
    assert new_bytes(by_frame, blocks, {0, 3, 6}, 2) == NewBytes(20, 600, 700, block=7, block_on_key_frames=400)
    assert new_bytes(by_frame, blocks, set(), 7) == NewBytes(None, None, None, None, None)


def test_a_detector_works_beside_the_frames_that_follow() -> None:
    assert beside({0, 10}) == {0, 1, 2, 3, 10, 11, 12, 13}


def test_the_target_is_reached_or_says_where_it_is_missed() -> None:
    assert verdict({"decode": 500, "locate": 8_000}) == "yes (8.0 kB)"
    assert verdict({"decode": 500, "locate": 153_700, "readout": 9_000}) == "no (locate 153.7 kB, readout 9.0 kB)"
    assert verdict({"decode": 500, "locate": None}) == "yes (0.5 kB)"
    assert verdict({"locate": None}) == "not measured"
