"""What an exported model says of many crops, as arrays. engines.concept does the same arithmetic for one face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.progress import track

from engines.base import Engine, EngineError
from engines.preprocess import to_tensor
from engines.spec import HeadSpec
from training.evaluate import parts_of

F64 = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

OUTPUTS = ("activation", "active", "inactive", "maps", "heads")
_BATCH = 16


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Outputs for N crops; K concepts, O = 1 + E outputs (the score, then the expression logits).

    activation: [N, K]. active, inactive: [N, K, O], W_k . c+_k and W_k . c-_k. maps: [N, K, h, w].
    own: [N, O], the outputs as the network itself adds them up.
    """

    activation: F64
    active: F64
    inactive: F64
    maps: F32
    own: F64

    def __len__(self) -> int:
        return len(self.activation)

    def take(self, rows: Ints | Bools) -> Answers:
        """The given rows."""
        return Answers(*(getattr(self, name)[rows] for name in self.__slots__))

    def joined(self, *others: Answers) -> Answers:
        """These rows, then those of the others."""
        parts = (self, *others)
        return Answers(*(np.concatenate([getattr(part, name) for part in parts]) for name in self.__slots__))

    def tensors(self) -> dict[str, npt.NDArray[np.floating]]:
        """The same under the names that engines.concept.read expects."""
        return dict(zip(OUTPUTS, (getattr(self, name) for name in self.__slots__), strict=True))


def ask(engine: Engine, crops: U8, description: str = "") -> Answers:
    """The engine's answers for luma crops [N, S, S]; a progress bar if there is a description.

    Raises EngineError if an output is missing or not finite: nothing is explained with values that are not there.
    """
    crop, _ = parts_of(engine.manifest)
    parts: dict[str, list[npt.NDArray[np.floating]]] = {name: [] for name in OUTPUTS}
    starts = range(0, len(crops), _BATCH)
    for start in track(starts, description=description) if description else starts:
        tensors = engine.infer({"crop": to_tensor(crops[start : start + _BATCH], crop)})
        for name, found in parts.items():
            if name not in tensors or not np.isfinite(tensors[name]).all():
                raise EngineError(f"{engine.manifest.name} on {engine.backend} gave no finite {name!r}")
            found.append(tensors[name])
    activation, active, inactive, maps, own = (np.concatenate(parts[name]) for name in OUTPUTS)
    wide = (each.astype(np.float64) for each in (activation, active, inactive, own))
    p, shown, absent, total = wide
    return Answers(p, shown, absent, maps.astype(np.float32), total)


def shares(answers: Answers, activation: F64 | None = None) -> F64:
    """W_k . c_k [N, K, O], for the answers' own activations or for others [N, K]."""
    p = (answers.activation if activation is None else activation)[:, :, None]
    return np.asarray(p * answers.active + (1.0 - p) * answers.inactive)


def contributions(answers: Answers, heads: HeadSpec, activation: F64 | None = None) -> F64:
    """[N, K, O]: the shares less their mean over the training pictures, as published."""
    return np.asarray(shares(answers, activation) - np.asarray(heads.mean))


def outputs(answers: Answers, heads: HeadSpec, activation: F64 | None = None) -> F64:
    """[N, O]: base plus the sum of the contributions; the published score and the logits below the expressions."""
    return np.asarray(np.asarray(heads.base) + contributions(answers, heads, activation).sum(axis=1))


def by_size(values: F64) -> Ints:
    """[N, K]: for each row the columns by falling size; equal ones keep their order."""
    return np.argsort(-np.abs(values), axis=1, kind="stable")


def shuffled(count: int, concepts: int, rng: np.random.Generator) -> Ints:
    """[count, concepts]: a random order for each row."""
    return np.asarray(rng.permuted(np.tile(np.arange(concepts), (count, 1)), axis=1))
