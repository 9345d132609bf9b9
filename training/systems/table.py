"""SYSTEMS: from an experiment to the network that it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from training.agcm.backbones import BACKBONES, Backbone
from training.agcm.model import Agcm, AgcmConfig, ViewedAgcm
from training.agcm.system import System
from training.concepts import EXPRESSIONS, NAMES
from training.experiment import Experiment
from training.systems.cbm import Cbm, LogitCbm
from training.systems.cem import Cem
from training.systems.mapped import AuCam, TsCam
from training.systems.plain import BlackBox, MultiTask
from training.systems.probcbm import ProbCbm

_CONCEPTS, _OUTPUTS = len(NAMES), 1 + len(EXPRESSIONS)


def backbone(experiment: Experiment) -> Backbone:
    """A fresh backbone of the experiment's kind."""
    return BACKBONES[experiment.backbone.kind](experiment.deep_channels)


def agcm(experiment: Experiment) -> Agcm:
    """AGCM, or with token_order = "viewed" the authors' own."""
    config = AgcmConfig(
        _CONCEPTS, _OUTPUTS, experiment.embedding, deep_channels=experiment.deep_channels,
        backbone=experiment.backbone.kind, randint=experiment.randint, landmarks=experiment.landmarks > 0,
        landmark_channels=experiment.landmark_channels, attention_channels=experiment.attention_channels,
    )  # fmt: skip
    return ViewedAgcm(config) if experiment.token_order == "viewed" else Agcm(config)


def _cbm(experiment: Experiment) -> Cbm:
    kind = LogitCbm if experiment.bottleneck == "logit" else Cbm
    return kind(backbone(experiment), _CONCEPTS, _OUTPUTS, experiment.learns)


SYSTEMS: Mapping[str, Callable[[Experiment], System]] = {
    "agcm": agcm,
    "cem": lambda e: Cem(backbone(e), _CONCEPTS, e.embedding, _OUTPUTS),
    "cbm": _cbm,
    "probcbm": lambda e: ProbCbm(backbone(e), _CONCEPTS, e.embedding, _OUTPUTS),
    "multitask": lambda e: MultiTask(backbone(e), _CONCEPTS, _OUTPUTS),
    "blackbox": lambda e: BlackBox(backbone(e), _OUTPUTS),
    "tscam": lambda e: TsCam(backbone(e), _OUTPUTS),
    "aucam": lambda e: AuCam(backbone(e), _OUTPUTS),
}
"""The rows are the values of an experiment's `system`."""


def build(experiment: Experiment) -> System:
    """The experiment's network with fresh weights."""
    return SYSTEMS[experiment.system](experiment)
