"""One TOML per experiment, typed and strict."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from training.agcm.backbones import BACKBONES
from training.data.augment import Augment


class ExperimentError(ValueError):
    """The experiment file is wrong; one line that names the key."""


SystemName = Literal["agcm", "cem", "cbm", "probcbm", "multitask", "blackbox", "tscam", "aucam"]
"""See training.systems.table."""
_OF_ONE_SYSTEM = (
    ("token_order", "agcm", "patch"), ("evidence", "agcm", 0.0), ("bottleneck", "cbm", "sigmoid"),
    ("learns", "cbm", "joint"), ("attention", "aucam", 0.0), ("landmarks", "agcm", 0.0), ("randint", "agcm", 0.25),
    ("landmark_channels", "agcm", 0), ("attention_channels", "agcm", 0),
)  # fmt: skip
"""Keys that one system alone has, and what they are elsewhere."""
_BOTTLENECKS = ("agcm", "cem", "cbm", "probcbm")


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A prepared file. teacher: labels for it, "" if it carries its own. share: part of its rows seen per epoch.
    concepts: weight of its concept labels. corpus: whose subjects it has, "" for the file's name up to its first _ ;
    no subject of a corpus may be both in train and in valid.
    """

    file: str
    teacher: str = ""
    share: float = 1.0
    concepts: float = 1.0
    corpus: str = ""

    def whose(self) -> str:
        """The corpus whose subjects this file has."""
        return self.corpus or Path(self.file).stem.partition("_")[0]


class BackboneSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """kind: a row of BACKBONES. weights: published weights to start from, "" for none."""

    kind: str = "efficientnet-lite0"
    weights: str = ""

    def __post_init__(self) -> None:
        if self.kind not in BACKBONES:
            raise ValueError(f"unknown backbone {self.kind!r}; there are {', '.join(BACKBONES)}")


class Phase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """epochs at side_px, in batches of batch.

    train: everything; or concepts, without the task; or task, the heads alone on concepts that stay as they are.
    """

    epochs: int
    side_px: int
    batch: int = 64
    train: Literal["everything", "concepts", "task"] = "everything"

    def __post_init__(self) -> None:
        # On a grid of 2 x 2 the 7x7 attention's bf16 weight gradient (oneDNN, torch 2.13) holds uninitialised memory.
        if self.side_px < 48 or self.side_px % 16:
            raise ValueError(f"side_px must be a multiple of 16 and at least 48, not {self.side_px}")
        if self.epochs < 1 or self.batch < 2:
            raise ValueError("a phase needs epochs >= 1 and batch >= 2")


class Experiment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """name: run folder under runs/. system: what is trained. crop_px: side of the crop that the exported model reads.
    backbone: kind and first weights, or init: a run's weights to go on from.
    scale_from: teacher file whose quantiles scale every teacher. expression, concept, map, score: loss weights.
    augment: how training pictures are varied.
    learning_rate: peak of one cosine with warm-up. head_rate: how many times faster what is above the backbone learns.
    ema: decay of the averaged weights, which are what is exported.
    attention: loss weight of aucam's map. evidence: of agcm's concepts with their maps hidden. landmarks: of where the
    face lies in the crop, which agcm says only if this is above 0. landmark_channels, attention_channels: see
    training.agcm.model. randint: how often agcm learns from a concept's
    label in place of its activation. freeze_backbone: train concepts and heads only. exclude_subjects: of the
    engagement corpus. token_order: of agcm; "viewed" repeats a defect of the authors' code. bottleneck, learns: of cbm.
    """

    name: str
    ict: str
    train: tuple[Source, ...]
    valid: tuple[Source, ...]
    phases: tuple[Phase, ...]
    scale_from: str
    backbone: BackboneSpec = BackboneSpec()
    init: str = ""
    augment: Augment = Augment()
    seed: int = 1
    embedding: int = 16
    deep_channels: int = 96
    learning_rate: float = 1e-3
    head_rate: float = 1.0
    weight_decay: float = 0.02
    ema: float = 0.998
    expression: float = 1.0
    concept: float = 1.0
    map: float = 0.1
    score: float = 0.0
    attention: float = 0.0
    evidence: float = 0.0
    landmarks: float = 0.0
    landmark_channels: int = 0
    attention_channels: int = 0
    randint: float = 0.25
    freeze_backbone: bool = False
    exclude_subjects: tuple[int, ...] = ()
    threads: int = 2
    system: SystemName = "agcm"
    crop_px: int = 112
    token_order: Literal["patch", "viewed"] = "patch"
    bottleneck: Literal["sigmoid", "logit"] = "sigmoid"
    learns: Literal["joint", "sequential", "independent"] = "joint"

    def __post_init__(self) -> None:
        if Path(self.name).name != self.name or self.name.startswith("."):
            raise ValueError(f"name is a run's folder under runs/ and holds no / and no leading dot, not {self.name!r}")
        if not self.phases or not self.train or not self.valid:
            raise ValueError("an experiment needs at least one of phases, train and valid")
        if self.crop_px < 48 or self.crop_px % 16:
            raise ValueError(f"crop_px must be a multiple of 16 and at least 48, not {self.crop_px}")
        for key, system, default in _OF_ONE_SYSTEM:
            if getattr(self, key) != default and self.system != system:
                raise ValueError(f"{key} is for system {system!r} only, not for {self.system!r}")
        stages = {phase.train for phase in self.phases}
        if stages != {"everything"} and self.system not in _BOTTLENECKS:
            raise ValueError(f"phases: system {self.system!r} has no bottleneck, so train must be 'everything'")
        if min(self.landmarks, self.landmark_channels, self.attention_channels, self.randint) < 0 or self.randint > 1:
            raise ValueError("landmarks and channels are not below 0, and randint is a share from 0 to 1")
        if self.learns == "sequential" and "everything" in stages:
            raise ValueError("learns = 'sequential' needs phases with train = 'concepts', then train = 'task'")


def load(path: Path) -> Experiment:
    """Read an experiment. Raises ExperimentError on an unknown key or a wrong type."""
    if not path.is_file():
        raise ExperimentError(f"experiment file not found: {path}")
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Experiment)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path}: {error}") from error
