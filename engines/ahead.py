"""A detector that works beside the analysis, so that no result is older for it.

Its answer counts in the first picture that is .09 s younger than the one that it was asked about: by then it is there,
as a rule, and if not it is waited for. So what is found does not depend on how fast the machine is. And since there is
so much time, the detector gives way to whoever else wants the processor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from engines.cores import give_way
from engines.detect import Detection
from engines.match import usable
from engines.preprocess import Points
from engines.track import eye_distance

_LATER_NS = 90_000_000  # three pictures of 30 a second
_NEAR = 0.75  # eye distances


@dataclass(frozen=True, slots=True)
class _Asked:
    """A detection that is under way. then: where the known faces were in its picture [5, 2], by id."""

    answer: Future[tuple[Detection, ...]]
    then: Mapping[int, Points]
    t_ns: int


class Ahead:
    """One detection at a time, on a thread of its own."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "detector", give_way)
        self._asked: _Asked | None = None

    @property
    def busy(self) -> bool:
        """Whether an answer is outstanding."""
        return self._asked is not None

    def ask(self, look: Callable[[], tuple[Detection, ...]], faces: Mapping[int, Points], t_ns: int) -> None:
        """Begin to look for faces in the picture captured at `t_ns`, in which the known ones are at `faces`."""
        self._asked = _Asked(self._thread.submit(look), faces, t_ns)

    def answer(self, faces: Mapping[int, Points], t_ns: int) -> tuple[Detection, ...] | None:
        """To be called once a picture: what was found, moved to where it is in this picture, in which the known faces
        are at `faces`; None as long as it does not count. Raises EngineError if the detector failed."""
        asked = self._asked
        if asked is None or 0 <= t_ns - asked.t_ns < _LATER_NS:
            return None
        self._asked = None
        return tuple(_carried(each, asked.then, faces) for each in usable(asked.answer.result()))

    def drop(self) -> None:
        """Wait until the detector is free, and forget what it found. Raises EngineError if it failed."""
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.answer.result()

    def close(self) -> None:
        """Wait for a detection that is under way; its network may be closed afterwards."""
        self._thread.shutdown()


def _carried(detection: Detection, then: Mapping[int, Points], now: Mapping[int, Points]) -> Detection:
    """A detection of an earlier picture, moved as the known face that it is near has moved since."""
    middle = detection.points.mean(axis=0)
    for face, before in then.items():
        near = np.linalg.norm(middle - before.mean(axis=0)) <= _NEAR * eye_distance(before)
        if near and face in now:
            step = (now[face].mean(axis=0) - before.mean(axis=0)).astype(np.float32)
            return Detection(detection.box + np.tile(step, 2), detection.points + step, detection.confidence)
    return detection
