"""A voice network on a stream: whole steps, a memory that is carried, and nothing that is no voice network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from engines.base import Array, EngineError, Tensors
from engines.hear import Listener
from engines.spec import Manifest, TensorSpec
from engines.voice import HOP, SAID, Step

COLUMNS = len(SAID)


class Counting:
    """Says of every step how many samples it has heard so far, by its memory alone."""

    backend = "none/fp32"

    def __init__(self, names: tuple[str, str] = ("samples", "memory")) -> None:
        inputs = TensorSpec(names[0], "float32", (1, -1)), TensorSpec(names[1], "float32", (1, 1))
        self.manifest = Manifest("counting", "none", "0" * 64, inputs, ())

    def infer(self, inputs: Mapping[str, Array]) -> Tensors:
        count = inputs["samples"].shape[1] // HOP
        ends = inputs["memory"] + np.arange(1, count + 1, dtype=np.float32) * HOP
        voice = np.repeat(ends.reshape(1, count, 1), COLUMNS, axis=2).astype(np.float32)
        return {"voice": voice, "memory_out": ends[:, -1:]}

    def close(self) -> None:
        pass


def test_its_memory_is_carried_until_it_is_told_to_forget() -> None:
    listener = Listener(Counting())
    said = [listener.hear(np.zeros(n * HOP, np.float32)) for n in (1, 3, 2)]
    assert np.concatenate(said)[:, 0].tolist() == [HOP * n for n in range(1, 7)]
    assert said[1].shape == (3, len(Step._fields))
    listener.forget()
    assert listener.hear(np.zeros(HOP, np.float32))[0, 0] == HOP


@pytest.mark.parametrize("count", [0, 1, HOP + 1])
def test_only_whole_steps_are_heard(count: int) -> None:
    with pytest.raises(ValueError, match="steps of 160"):
        Listener(Counting()).hear(np.zeros(count, np.float32))


def test_another_network_is_refused() -> None:
    with pytest.raises(EngineError, match="counting is no voice network: it takes crop, memory"):
        Listener(Counting(("crop", "memory")))


def test_an_answer_that_is_no_number_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Counting()
    listener = Listener(engine)
    broken = {"voice": np.full((1, 1, COLUMNS), np.nan, np.float32), "memory_out": np.zeros((1, 1), np.float32)}
    monkeypatch.setattr(engine, "infer", lambda inputs: broken)
    with pytest.raises(EngineError, match="no steps of a voice network"):
        listener.hear(np.zeros(HOP, np.float32))
