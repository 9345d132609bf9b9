"""The state of a training run: model, averaged weights, optimiser, and the checkpoint that it goes on from."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from training.agcm.model import Agcm, AgcmConfig
from training.concepts import EXPRESSIONS, NAMES
from training.experiment import Experiment, ExperimentError


class Averaged:
    """Exponential moving average of a model's weights and batch statistics (Polyak averaging)."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """One step; early steps forget faster, so that the start does not linger."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)


class Run:
    """A training run: model, averaged weights, optimiser, and where it stands."""

    def __init__(self, experiment: Experiment, folder: Path) -> None:
        self.experiment, self.folder, self.number = experiment, folder, 0
        config = AgcmConfig(
            len(NAMES), 1 + len(EXPRESSIONS), experiment.embedding, deep_channels=experiment.deep_channels,
            backbone=experiment.backbone.kind,
        )  # fmt: skip
        torch.manual_seed(experiment.seed)
        # Channels last is what the depthwise backward pass and the bf16 kernels want.
        self.model = Agcm(config)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stub
        _start(self.model, experiment)
        self.model.backbone.requires_grad_(not experiment.freeze_backbone)
        self.optimizer = torch.optim.AdamW(_groups(self.model, experiment.weight_decay), lr=experiment.learning_rate)
        self.averaged = Averaged(self.model, experiment.ema)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def save(self) -> None:
        """Write the checkpoint and the averaged weights, each atomically."""
        state = {
            "model": self.model.state_dict(), "average": self.averaged.state, "average_steps": self.averaged.steps,
            "optimizer": self.optimizer.state_dict(), "number": self.number,
        }  # fmt: skip
        for path, content in ((self.checkpoint, state), (self.folder / "weights.pt", self.averaged.state)):
            partial = path.with_suffix(".partial")
            torch.save(content, partial)
            partial.replace(path)

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        if not self.checkpoint.is_file():
            return
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError as error:
            raise ExperimentError(f"{self.checkpoint} belongs to another configuration; remove it or rename") from error
        self.averaged.state, self.averaged.steps = state["average"], state["average_steps"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.number = state["number"]


def load_weights(path: Path) -> dict[str, Tensor]:
    """Averaged weights of a run. Raises ExperimentError if they are not there."""
    if not path.is_file():
        raise ExperimentError(f"weights not found: {path}")
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _start(model: Agcm, experiment: Experiment) -> None:
    """Fill a fresh model from the files of the experiment. Raises ExperimentError if they do not fit it."""
    if experiment.backbone.weights:
        path, kind = Path(experiment.backbone.weights), experiment.backbone.kind
        if not path.is_file():
            raise ExperimentError(f"weights of the backbone not found: {path} (docs/training.md, step 2, names them)")
        try:
            model.backbone.load(path)
        except (KeyError, RuntimeError, ValueError) as error:
            raise ExperimentError(f"{path} holds no weights of {kind}: {str(error).splitlines()[0]}") from error
    if experiment.init:
        try:
            model.load_state_dict(load_weights(Path(experiment.init)))
        except RuntimeError as error:
            raise ExperimentError(f"init: {experiment.init} belongs to another configuration") from error


def _groups(model: nn.Module, decay: float) -> list[dict[str, object]]:
    """Weight decay for kernels and matrices only."""
    trained = [p for p in model.parameters() if p.requires_grad]
    large = [p for p in trained if p.ndim > 1]
    small = [p for p in trained if p.ndim <= 1]
    return [{"params": large, "weight_decay": decay}, {"params": small, "weight_decay": 0.0}]
