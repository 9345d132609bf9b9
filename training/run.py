"""The state of a training run: model, averaged weights, optimiser, and the checkpoint that it goes on from."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251  # the error alone: torch reads with weights_only
from typing import Any

import msgspec
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from training.agcm.system import System
from training.experiment import Experiment, ExperimentError
from training.hardware import Hardware, launched
from training.systems.table import build

_NETWORK = (
    "system", "embedding", "deep_channels", "attention_channels", "landmark_channels", "token_order", "bottleneck",
    "learns",
)  # fmt: skip
"""Keys of an experiment that a checkpoint cannot go on without; and the backbone's kind."""
_FREE = ("name", "threads", "ict", "init", "backbone")
"""Keys that may change without a word; of the backbone its weights, which a checkpoint replaces."""


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
    """A training run: model, averaged weights, optimiser, and where it stands.

    model: the network itself. trained: the same as Fabric runs it, on its device and in its precision.
    """

    def __init__(self, experiment: Experiment, folder: Path, fabric: Fabric | None = None) -> None:
        self.experiment, self.folder, self.number = experiment, folder, 0
        self.fabric = launched(Hardware("cpu")) if fabric is None else fabric
        torch.manual_seed(experiment.seed)
        self.model = build(experiment)
        # Channels last is what the depthwise backward pass and the bf16 kernels want.
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stub
        _start(self.model, experiment)
        self.model.backbone.requires_grad_(not experiment.freeze_backbone)
        groups = _groups(self.model, experiment.weight_decay, experiment.head_rate)
        self.trained = self.fabric.setup(self.model)
        self.optimizer = torch.optim.AdamW(groups, lr=experiment.learning_rate)
        self.averaged = Averaged(self.model, experiment.ema)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def stage(self, train: str, begins: bool) -> None:
        """Let a phase's part of the network learn: see experiment.Phase. Where the task begins it is given the averaged
        concepts, since these are the ones that ship."""
        for name, parameter in self.model.named_parameters():
            frozen = self.experiment.freeze_backbone and name.startswith("backbone.")
            parameter.requires_grad_(not frozen and train in ("everything", self._part(name)))
        if train == "task" and begins:
            self.model.load_state_dict(self.averaged.state)

    def ready(self, train: str) -> None:
        """Training mode for the part that learns; batch statistics of what is frozen stay as they are."""
        self.trained.train(train != "task")
        if self.experiment.freeze_backbone:
            self.model.backbone.eval()

    def _part(self, name: str) -> str:
        return "task" if name in self.model.head else "concepts"

    def save(self) -> None:
        """Write the checkpoint and the averaged weights, each atomically. Raises ExperimentError if the disk is full;
        what was there before is still there then."""
        if not self.fabric.is_global_zero:
            return
        state = {
            "model": self.model.state_dict(), "average": self.averaged.state, "average_steps": self.averaged.steps,
            "optimizer": self.optimizer.state_dict(), "number": self.number,
            "experiment": msgspec.json.encode(self.experiment).decode(),
        }  # fmt: skip
        write_atomically(self.checkpoint, state)
        write_atomically(self.folder / "weights.pt", self.averaged.state)

    def resume(self) -> str:
        """Go on from the checkpoint, if there is one; says which settings have changed since, "" for none.

        Raises ExperimentError naming what differs if the checkpoint is another network's.
        """
        if not self.checkpoint.is_file():
            return ""
        state = read_torch(self.checkpoint, "model", "average", "average_steps", "optimizer", "number")
        changed = _compare(state.get("experiment", ""), self.experiment, self.checkpoint)
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError as error:
            raise ExperimentError(f"{self.checkpoint} belongs to another configuration; remove it or rename") from error
        for name, value in state["average"].items():
            self.averaged.state[name].copy_(value)
        self.averaged.steps = state["average_steps"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.number = state["number"]
        return changed


def write_atomically(path: Path, content: object) -> None:
    """torch.save to a file beside `path`, then in its place. Raises ExperimentError if it cannot be written."""
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, partial)
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch's own writer raises RuntimeError where the disk is full
        partial.unlink(missing_ok=True)
        kept = "what it held before is still there" if path.exists() else "nothing was written"
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error).splitlines()[0]
        raise ExperimentError(f"cannot write {path} ({reason}); {kept}; make room and start again") from error


def read_torch(path: Path, *needed: str) -> dict[str, Any]:
    """What torch.save wrote under names. Raises ExperimentError naming a file that is damaged or something else."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    # A text, an empty file, a cut-off archive and a foreign pickle fail in a way of their own each.
    except (RuntimeError, ValueError, KeyError, EOFError, OSError, UnpicklingError) as error:
        raise ExperimentError(f"{path} is damaged or was not written by torch; remove it or rename") from error
    if not isinstance(state, dict) or (missing := [name for name in needed if name not in state]):
        what = f"it lacks {', '.join(missing)}" if isinstance(state, dict) else "it is no table of tensors"
        raise ExperimentError(f"{path} is not what this version writes ({what}); remove it or rename")
    return state


def load_weights(path: Path) -> dict[str, Tensor]:
    """Averaged weights of a run. Raises ExperimentError if they are not there."""
    if not path.is_file():
        raise ExperimentError(f"weights not found: {path}")
    return read_torch(path)


def _compare(saved: str, experiment: Experiment, path: Path) -> str:
    """Raises ExperimentError if the checkpoint's experiment made another network; returns what else has changed."""
    try:
        before = msgspec.json.decode(saved, type=Experiment)
    except msgspec.MsgspecError:
        return ""  # a checkpoint of an earlier version says nothing of its experiment; its tensors will tell
    pairs = {key: (getattr(before, key), getattr(experiment, key)) for key in _NETWORK}
    pairs["backbone.kind"] = (before.backbone.kind, experiment.backbone.kind)
    for key, (was, now) in pairs.items():
        if was != now:
            raise ExperimentError(
                f"{path} belongs to another configuration: its {key} is {was!r}, not {now!r}; remove it or rename"
            )
    keys = [key for key in experiment.__struct_fields__ if key not in (*_NETWORK, *_FREE)]
    return ", ".join(key for key in keys if getattr(before, key) != getattr(experiment, key))


def _start(model: System, experiment: Experiment) -> None:
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
            fresh = {name: value for name, value in model.state_dict().items() if name.startswith("landmarks.")}
            model.load_state_dict(fresh | load_weights(Path(experiment.init)))  # these alone may begin anew
        except RuntimeError as error:
            raise ExperimentError(f"init: {experiment.init} belongs to another configuration") from error


def _groups(model: nn.Module, decay: float, head_rate: float) -> list[dict[str, object]]:
    """Weight decay for kernels and matrices only; `rate` multiplies the learning rate."""
    groups: list[dict[str, object]] = []
    for backbone, rate in ((True, 1.0), (False, head_rate)):
        named = [p for name, p in model.named_parameters() if name.startswith("backbone.") == backbone]
        trained = [p for p in named if p.requires_grad]
        groups.append({"params": [p for p in trained if p.ndim > 1], "weight_decay": decay, "rate": rate})
        groups.append({"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0, "rate": rate})
    return groups
