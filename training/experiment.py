"""One TOML per experiment, typed and strict."""

from __future__ import annotations

from pathlib import Path

import msgspec

from training.agcm.backbones import BACKBONES


class ExperimentError(ValueError):
    """The experiment file is wrong; one line that names the key."""


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A prepared file. teacher: labels for it, "" if it carries its own. share: part of its rows seen per epoch.
    concepts: weight of its concept labels.
    """

    file: str
    teacher: str = ""
    share: float = 1.0
    concepts: float = 1.0


class BackboneSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """kind: a row of BACKBONES. weights: published weights to start from, "" for none."""

    kind: str = "efficientnet-lite0"
    weights: str = ""

    def __post_init__(self) -> None:
        if self.kind not in BACKBONES:
            raise ValueError(f"unknown backbone {self.kind!r}; there are {', '.join(BACKBONES)}")


class Phase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """epochs at side_px, in batches of batch."""

    epochs: int
    side_px: int
    batch: int = 64

    def __post_init__(self) -> None:
        # On a grid of 2 x 2 the 7x7 attention's bf16 weight gradient (oneDNN, torch 2.13) holds uninitialised memory.
        if self.side_px < 48 or self.side_px % 16:
            raise ValueError(f"side_px must be a multiple of 16 and at least 48, not {self.side_px}")
        if self.epochs < 1 or self.batch < 2:
            raise ValueError("a phase needs epochs >= 1 and batch >= 2")


class Experiment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """name: run folder under runs/. backbone: kind and first weights, or init: a run's weights to go on from.
    scale_from: teacher file whose quantiles scale every teacher. expression, concept, map, score: loss weights.
    learning_rate: peak of one cosine with warm-up. ema: decay of the averaged weights, which are what is exported.
    freeze_backbone: train concepts and heads only. exclude_subjects: of the engagement corpus.
    """

    name: str
    ict: str
    train: tuple[Source, ...]
    valid: tuple[Source, ...]
    phases: tuple[Phase, ...]
    scale_from: str
    backbone: BackboneSpec = BackboneSpec()
    init: str = ""
    seed: int = 1
    embedding: int = 16
    deep_channels: int = 96
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    ema: float = 0.998
    expression: float = 1.0
    concept: float = 1.0
    map: float = 0.1
    score: float = 0.0
    freeze_backbone: bool = False
    exclude_subjects: tuple[int, ...] = ()
    threads: int = 2


def load(path: Path) -> Experiment:
    """Read an experiment. Raises ExperimentError on an unknown key or a wrong type."""
    if not path.is_file():
        raise ExperimentError(f"experiment file not found: {path}")
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Experiment)
    except msgspec.MsgspecError as error:
        raise ExperimentError(f"{path}: {error}") from error
