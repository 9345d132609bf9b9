"""What a manifest says of joining what is seen with what is heard, and the present with the past: typed and strict."""

from __future__ import annotations

import msgspec


class PriorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights that nobody learnt: voice concept v adds weight_v (activation_v - mean_v) to the score, where a session
    asks for it."""

    weight: tuple[float, ...]
    mean: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.weight) != len(self.mean):
            raise ValueError("hearing.prior: needs a weight and a mean for every voice concept")


class HearingSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model hears beside what it sees.

    model, sha256: the folder of its voice network, and the digest of that network's file. concepts: how many it hears.
    prior: None where what is heard has learnt weights (TimedSpec) or none.
    """

    model: str
    sha256: str
    concepts: int
    prior: PriorSpec | None = None

    def __post_init__(self) -> None:
        if self.prior is not None and len(self.prior.weight) != self.concepts:
            raise ValueError(f"hearing.prior: needs {self.concepts} weights, one per voice concept")


class MemorySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of the past of a value; see engines.timed.

    taps: past ones in a row, of which each lags `constant_s` behind the one before. habit_s: one more follows the
    present with this constant, so that it is what is usual for a person; 0 if there is none.
    """

    taps: int
    constant_s: float
    habit_s: float = 0.0

    def __post_init__(self) -> None:
        if self.taps < 0 or not self.constant_s > 0 or not self.habit_s >= 0:
            raise ValueError("a memory needs taps >= 0, constant_s > 0 and habit_s >= 0")

    @property
    def size(self) -> int:
        """J: how many values of the past are kept of each."""
        return self.taps + (self.habit_s > 0)


class ReadingSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Concepts as the head's corpus names them: reading_k = bias_k + sum_j weight_kj activation_j. weight [K][K],
    bias [K]."""

    weight: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.weight) != len(self.bias) or any(len(row) != len(self.bias) for row in self.weight):
            raise ValueError("timed.reading: needs a bias and a weight for every activation of every concept")


class BranchSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights and means [K][m][1 + J] of K concepts, each with m values and their J past ones; see engines.timed."""

    weight: tuple[tuple[tuple[float, ...], ...], ...]
    mean: tuple[tuple[tuple[float, ...], ...], ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(K, m, 1 + J). Raises ValueError unless weight and mean have it throughout."""
        shapes = {
            (len(side), len(side[0]), len(row))
            for side in (self.weight, self.mean) for concept in side for row in concept if len(concept) == len(side[0])
        }  # fmt: skip
        ragged = any(len(concept) != len(side[0]) for side in (self.weight, self.mean) for concept in side)
        if len(shapes) != 1 or ragged:
            raise ValueError("timed: weight and mean of a branch need the same numbers of concepts, values and taps")
        return shapes.pop()


class TimedSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A score from the past of what is seen and heard; see engines.timed.

    usual_seen [K][m], usual_heard [V]: what the past was before the start; m says how many values of a concept count
    (engines.timed.seen_of), its activation first.
    seen, heard: one head for all senses; heard is None for one that only sees.
    reading: takes the place of the activations, whose number it has; then m is 1. None: they count as they are.
    """

    memory: MemorySpec
    usual_seen: tuple[tuple[float, ...], ...]
    usual_heard: tuple[float, ...]
    base: float
    seen: BranchSpec
    heard: BranchSpec | None = None
    reading: ReadingSpec | None = None

    def __post_init__(self) -> None:
        taps = 1 + self.memory.size
        wanted = len(self.usual_seen), len(self.usual_seen[0]) if self.usual_seen else 0, taps
        if self.seen.shape != wanted:
            raise ValueError(f"timed.seen: needs weights of {wanted}")
        if self.heard is not None and self.heard.shape != (len(self.usual_heard), 1, taps):
            raise ValueError(f"timed.heard: needs weights for the {len(self.usual_heard)} concepts that are heard")
        if self.reading is not None and (len(self.reading.bias), 1) != wanted[:2]:
            raise ValueError("timed.reading: needs as many concepts as the head, of one value each")
