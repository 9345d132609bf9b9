"""A detector that works beside the analysis: its answer counts three pictures later, whatever it takes."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.base import Array, Engine, Tensors
from engines.detect import Detection, detect
from engines.face import FaceFinder
from engines.preprocess import Luma
from engines.spec import load_model_file
from tests.engines.test_face import FACE, FRAME_NS, moved, place, run, scene, still_life, wander


@pytest.fixture(scope="module")
def detector() -> Iterator[Engine]:
    engine = OnnxRuntimeEngine(load_model_file("centerface"))
    yield engine
    engine.close()


class Slow:
    """A detector that takes its time."""

    def __init__(self, engine: Engine, delay_s: float) -> None:
        self._engine, self._delay_s, self.calls, self.answered, self.most_at_once = engine, delay_s, 0, 0, 0
        self.manifest, self.backend, self.device = engine.manifest, engine.backend, engine.device

    def infer(self, inputs: Mapping[str, Array]) -> Tensors:
        self.calls += 1
        self.most_at_once = max(self.most_at_once, self.calls - self.answered)
        time.sleep(self._delay_s)
        said = self._engine.infer(inputs)
        self.answered += 1
        return said

    def close(self) -> None:
        """Nothing to release."""


def test_a_detector_that_works_ahead_answers_three_pictures_later_however_long_it_takes(detector: Engine) -> None:
    scenes = [scene(wander(i), seed=i) for i in range(40)]
    slow, fast = Slow(detector, 0.02), Slow(detector, 0.0)
    results, others = (run(FaceFinder(each, ahead=True), scenes) for each in (slow, fast))
    assert [i for i, r in enumerate(results) if r.detected] == [0, 13, 23, 33]
    assert slow.calls == fast.calls == 4
    for one, other in zip(results, others, strict=True):
        np.testing.assert_array_equal(one.faces[0].points, other.faces[0].points)
    errors = [np.linalg.norm(r.faces[0].points - moved(FACE, wander(i)), axis=1).mean() for i, r in enumerate(results)]
    assert max(errors) < 1.5
    assert all([(f.id, f.status) for f in r.faces] == [(1, "tracked")] for r in results)


def test_a_picture_is_given_back_at_once_to_whoever_owns_its_memory(detector: Engine) -> None:
    """The detector looks at what it was given, whatever becomes of the picture meanwhile."""
    finder, shared = FaceFinder(Slow(detector, 0.02), ahead=True), np.empty((360, 640), np.uint8)
    for i in range(13):
        shared[:] = scene(place(320, 180), seed=i)
        result = finder.locate(shared, i * FRAME_NS)
        shared[:] = 0
    assert [(face.id, face.status) for face in result.faces] == [(1, "tracked")]


def test_a_picture_that_nobody_can_write_to_is_kept_while_it_is_looked_at(detector: Engine) -> None:
    """It need not be copied; afterwards it is let go, so that its memory is used again."""
    finder, shown, kept = FaceFinder(Slow(detector, 0.02), ahead=True), [], []
    for i in range(13):
        picture = scene(place(320, 180), seed=i)
        picture.flags.writeable = False
        result = finder.locate(picture, i * FRAME_NS)
        shown.append(weakref.ref(picture))
        del picture
        kept.append(shown[-1]() is not None)
    assert [(face.id, face.status) for face in result.faces] == [(1, "tracked")]
    assert any(kept)
    finder.close()
    assert not any(each() is not None for each in shown)


def test_what_looks_at_this_very_picture_is_not_asked_from_another_thread(detector: Engine) -> None:
    """It may be a GPU, whose context belongs to the thread that made it."""
    here, looked = threading.get_ident(), []

    def look(luma: Luma, longest_px: int, threshold: float) -> tuple[Detection, ...]:
        looked.append(threading.get_ident())
        return detect(detector, luma, longest_px, threshold)

    slow = Slow(detector, 0.0)
    results = run(FaceFinder(slow, ahead=True, look=look), [scene(wander(i), seed=i) for i in range(20)])
    assert [i for i, r in enumerate(results) if r.detected] == [0, 13]
    assert looked == [here], "the first picture, in which nobody is known"
    assert slow.calls == 1, "the detector, ahead"


@pytest.mark.parametrize("after", ["black", "landscape"])
def test_a_cut_while_the_detector_works_ahead_ends_at_once(detector: Engine, after: str) -> None:
    finder = FaceFinder(detector, ahead=True)
    run(finder, (scene(place(320, 180), seed=i) for i in range(11)))  # asked in the last of these
    empty = np.zeros((360, 640), np.uint8) if after == "black" else still_life()
    for result in run(finder, [empty] * 3, start=11):
        assert result.faces == () and result.detected


def test_a_newcomer_is_looked_for_in_the_picture_at_hand(detector: Engine) -> None:
    """Who is found in an earlier picture has moved since; no other place is reported than that in this picture."""
    slow = Slow(detector, 0.0)
    finder = FaceFinder(slow, ahead=True)
    run(finder, (scene(place(200, 180), seed=i) for i in range(5)))
    walk = [place(440 + 4 * i, 180) for i in range(15)]
    results = run(finder, (scene(place(200, 180), at, seed=i) for i, at in enumerate(walk)), start=5)
    assert [len(r.faces) for r in results[:8]] == [1] * 8
    assert len(results[8].faces) == 2, "asked in picture 10, known in picture 13"
    found = next(face for face in results[8].faces if face.id == 2)
    assert np.linalg.norm(found.points - moved(FACE, walk[8]), axis=1).mean() < 2.0
    assert all(len(r.faces) == 2 for r in results[8:])
    assert slow.calls == 3, "one at the start, one beside the analysis, one to see where the newcomer is"


def test_of_few_pictures_a_second_the_next_one_has_the_answer(detector: Engine) -> None:
    finder = FaceFinder(detector, ahead=True)
    results = [finder.locate(scene(place(320, 180), seed=i), 4 * i * FRAME_NS) for i in range(10)]
    assert [i for i, r in enumerate(results) if r.detected] == [0, 4, 7]


def test_doubt_waits_for_the_detection_that_is_under_way(detector: Engine) -> None:
    """A network is asked one thing at a time."""
    slow = Slow(detector, 0.05)
    finder = FaceFinder(slow, ahead=True)
    run(finder, (scene(place(320, 180), seed=i) for i in range(11)))  # asked in the last of these
    run(finder, [np.zeros((360, 640), np.uint8)], start=11)
    assert slow.calls == slow.answered == 3
    assert slow.most_at_once == 1


def test_closing_waits_for_the_detection_that_is_under_way(detector: Engine) -> None:
    slow = Slow(detector, 0.05)
    finder = FaceFinder(slow, ahead=True)
    run(finder, (scene(place(320, 180), seed=i) for i in range(11)))
    finder.close()
    assert slow.answered == slow.calls == 2
