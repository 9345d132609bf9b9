"""How many threads an engine gets, on a machine that is imagined."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np
import pytest

from engines import choose as chooser
from engines.base import Array, EngineError, Tensors
from engines.choose import choose
from engines.spec import ModelFile


class Timed:
    """An engine of which only its time is known."""

    made: ClassVar[list[Timed]] = []
    device = "cpu"

    def __init__(self, name: str, precision: str, threads: int) -> None:
        self.name, self.precision, self.threads, self.is_open = name, precision, threads, True
        self.made.append(self)

    def infer(self, inputs: Mapping[str, Array]) -> Tensors:
        return {"activation": np.full((1, 3), 0.5, np.float32)}

    def close(self) -> None:
        self.is_open = False


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[tuple[str, str, int], float], int], None]:
    """Gives engines made-up times by backend, precision and threads, and the machine so many cores."""

    def give(times_ms: Mapping[tuple[str, str, int], float], cores: int) -> None:
        def construct(name: str, model: ModelFile, precision: str, threads: int) -> Timed:
            if (name, precision, 1) not in times_ms:
                raise EngineError(f"{name} has no {precision}")
            return Timed(name, precision, threads)

        monkeypatch.setattr(Timed, "made", [])
        monkeypatch.setattr(chooser, "_construct", construct)
        monkeypatch.setattr(chooser, "_measure", lambda each, _: times_ms[each.name, each.precision, each.threads])
        monkeypatch.setattr(chooser, "physical", lambda _: cores)

    return give


ORT, VINO = ("onnxruntime", "fp32"), ("openvino", "fp32")
Times = Callable[[Mapping[tuple[str, str, int], float], int], None]


@pytest.mark.parametrize(
    ("times_ms", "cores", "threads", "tried"),
    [
        ({(*ORT, 1): 10.0, (*ORT, 2): 6.0, (*ORT, 3): 5.0, (*ORT, 4): 4.8}, 8, 3, 4),  # the fourth gains 4 %
        ({(*ORT, 1): 10.0, (*ORT, 2): 9.1}, 2, 1, 2),  # a gain of 9 % is none
        ({(*ORT, 1): 10.0, (*ORT, 2): 9.0}, 2, 2, 2),
        ({(*ORT, 1): 10.0, (*ORT, 2): 12.0, (*ORT, 3): 1.0}, 4, 1, 2),  # nothing beyond what does not help
        ({(*ORT, 1): 2.2, (*ORT, 2): 1.3}, 2, 1, 2),  # less than a millisecond is none either
        ({(*ORT, 1): 1.3, (*ORT, 2): 0.7}, 2, 1, 1),  # and where it cannot be had it is not looked for
        ({(*ORT, 1): 10.0}, 1, 1, 1),
    ],
)
def test_threads_are_taken_while_each_is_a_clear_gain(
    times_ms: Mapping[tuple[str, str, int], float],
    cores: int,
    threads: int,
    tried: int,
    tiny: ModelFile,
    sample: dict[str, Array],
    timed: Times,
) -> None:
    timed(times_ms, cores)
    chosen = choose("onnxruntime", tiny, "fp32", 0, sample)
    assert chosen.choice.taken.threads == threads
    assert len(Timed.made) == tried
    assert [each.threads for each in Timed.made if each.is_open] == [threads], "all others are closed"
    assert {row.threads for row in chosen.choice.others} == set(range(1, tried + 1)) - {threads}


def test_the_fastest_of_all_backends_on_its_threads_is_taken(
    tiny: ModelFile, sample: dict[str, Array], timed: Times
) -> None:
    timed({(*ORT, 1): 5.0, (*ORT, 2): 4.8, (*VINO, 1): 6.0, (*VINO, 2): 3.5}, 2)
    chosen = choose("auto", tiny, "fp32", 0, sample)
    assert (chosen.choice.taken.backend, chosen.choice.taken.threads) == ("openvino", 2)
    assert chosen.choice.summary().startswith(
        "engine: openvino/fp32 on 2 threads (3.5 ms; onnxruntime/fp32 on 2 threads 4.8, onnxruntime/fp32 5.0, "
        "openvino/fp32 6.0"
    )
    assert [(each.name, each.threads) for each in Timed.made if each.is_open] == [("openvino", 2)]


def test_more_threads_must_clearly_beat_what_is_as_fast_on_one(
    tiny: ModelFile, sample: dict[str, Array], timed: Times
) -> None:
    """Else the same machine would take the one today and the other tomorrow."""
    timed({(*ORT, 1): 3.0, (*ORT, 2): 1.69, (*VINO, 1): 1.7, (*VINO, 2): 1.0}, 2)
    chosen = choose("auto", tiny, "fp32", 0, sample)
    assert (chosen.choice.taken.backend, chosen.choice.taken.threads) == ("openvino", 1)
    assert len(Timed.made) == 2


def test_more_threads_are_not_tried_for_what_cannot_win(
    tiny: ModelFile, sample: dict[str, Array], timed: Times
) -> None:
    timed({(*ORT, 1): 9.0, (*VINO, 1): 6.0, (*VINO, 2): 4.0}, 2)
    chosen = choose("auto", tiny, "fp32", 0, sample)
    assert chosen.choice.taken.threads == 2
    assert [(each.name, each.threads) for each in Timed.made] == [("onnxruntime", 1), ("openvino", 1), ("openvino", 2)]


def test_threads_are_a_matter_of_the_cpu(
    tiny: ModelFile, sample: dict[str, Array], timed: Times, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed({(*ORT, 1): 9.0, (*ORT, 2): 1.0}, 2)
    monkeypatch.setattr(Timed, "device", "gpu")
    assert choose("onnxruntime", tiny, "fp32", 0, sample).choice.taken.threads == 1
    assert len(Timed.made) == 1


def test_a_number_of_threads_that_is_asked_for_is_not_measured_against_others(
    tiny: ModelFile, sample: dict[str, Array], timed: Times
) -> None:
    timed({(*ORT, 1): 5.0, (*ORT, 2): 9.0}, 2)
    chosen = choose("onnxruntime", tiny, "fp32", 2, sample)
    assert (chosen.choice.taken.threads, chosen.choice.others) == (2, ())
