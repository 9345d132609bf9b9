"""A model that ships, made trainable: `python -m training.restore models/agcm-live EXPERIMENT.toml --out WEIGHTS.pt`.

An exported network has its norms folded into its convolutions and its attention kernels summed. Here every norm is
given back: it is measured on real crops and rescaled so that the answer stays what it was, because in training a norm
divides by what it measures. The weights are therefore not those that were exported, and the network is: that is checked
against the file on the same crops. Only AGCM on the convolutional backbones can be restored; EXPERIMENT says which one
it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import onnx
import torch
import typer
from torch import Tensor, nn

from engines.spec import ManifestError, ModelFile, load_model_file
from training.agcm.backbone import LumaEfficientNetLite0
from training.agcm.face_resnet import LumaFaceResNet
from training.agcm.model import Agcm
from training.agcm.sface import LumaSFace, SlopedReLU
from training.data.pictures import DataError
from training.data.samples import load as load_samples
from training.experiment import Experiment, ExperimentError
from training.experiment import load as load_experiment
from training.export import TOLERANCE, parity, tensors
from training.run import write_atomically
from training.systems.table import agcm

_PREFIX = "system."
_RESTORED = (LumaEfficientNetLite0, LumaFaceResNet, LumaSFace)
_MEASURED = 512


def restore(experiment: Experiment, file: ModelFile, crops: npt.NDArray[np.float32]) -> Agcm:
    """The network of a file, ready to be trained. crops [N, 1, S, S] settle its norms. Raises ExperimentError if the
    file is another network than the experiment's."""
    model = agcm(experiment).eval()
    if experiment.system != "agcm" or not isinstance(model.backbone, _RESTORED):
        raise ExperimentError(f"{experiment.name}: only AGCM on convolutional backbones can be restored")
    try:
        _fill(model, _constants(file.path))
    except (KeyError, RuntimeError) as error:
        raise ExperimentError(f"{file.path} is not the network of {experiment.name}: {error}") from error
    difference = parity(model, file, crops[:64])
    if not difference <= TOLERANCE:
        raise ExperimentError(
            f"{file.path} is not the network of {experiment.name}: answers differ by {difference:.1e}"
        )
    settle(model, torch.from_numpy(crops))
    return model


def _constants(path: Path) -> dict[str, Tensor]:
    """The constants of a graph by name. Under names of their own: the activation's weight, which the exporter
    transposes, and what follows a convolution with weight W, as W:bias and W:slopes."""
    graph = onnx.load(path).graph
    found = {each.name: torch.from_numpy(onnx.numpy_helper.to_array(each).copy()) for each in graph.initializer}
    readers = {name: node for node in graph.node for name in node.input}
    for node in graph.node:
        # Landmarks are a product with constants as well: with where the cells lie, two columns of them.
        if node.op_type == "MatMul" and node.input[1] in found and found[node.input[1]].shape[-1] == 1:
            found[f"{_PREFIX}score.weight"] = found[node.input[1]].T
        if node.op_type != "Conv":
            continue
        weight, after = node.input[1], readers.get(node.output[0])
        found[f"{weight}:bias"] = found[node.input[2]] if len(node.input) > 2 else torch.zeros(len(found[weight]))
        if after is not None and after.op_type == "PRelu":
            found[f"{weight}:slopes"] = found[after.input[1]].flatten()
    return found


@torch.no_grad()
def _fill(model: Agcm, constants: Mapping[str, Tensor]) -> None:
    """Weights of the folded graph, with norms that do nothing. Raises KeyError or RuntimeError if they do not fit."""
    own = model.state_dict()
    small, middle, large = (f"attention.kernels.{i}" for i in range(3))
    sources = {large: "attention.folded", "attention.norm.bias": "attention.folded:bias"}
    for name in (small, middle):
        own[name].zero_()
    left = set(own) - {small, middle, "backbone.settled"}
    for name, module in model.named_modules():
        stem = name.rpartition(".")[0]  # of a row of layers: convolution 0, norm 1, slopes 2
        if isinstance(module, nn.BatchNorm2d):
            values = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0 - module.eps}
            for key, value in values.items():
                own[f"{name}.{key}"].fill_(value)
            left -= {f"{name}.{key}" for key in (*values, "num_batches_tracked")}
            if name.endswith(".1"):
                sources[f"{name}.bias"] = f"{stem}.0.weight:bias"
        elif isinstance(module, SlopedReLU):
            sources[f"{name}.slopes"] = f"{stem}.0.weight:slopes"
    for name in left | set(sources):
        own[name].copy_(constants[_PREFIX + sources.get(name, name)])


@torch.no_grad()
def settle(model: nn.Module, crops: Tensor) -> None:
    """Give every norm the statistics of its input over the crops, and a scale and shift under which the network in
    evaluation mode answers what it answered before."""
    with _measured(model) as measured:
        for start in range(0, len(crops), 64):
            model(crops[start : start + 64])
    for module, (count, total, squares) in measured.items():
        mean, before = total / count, (module.running_mean, module.running_var)
        variance = squares / count - mean**2
        if before[0] is None or before[1] is None:
            raise ValueError("a norm that keeps no statistics cannot be settled")
        gain = module.weight.double() * (before[1].double() + module.eps).rsqrt()
        offset = module.bias.double() - gain * before[0].double()
        module.weight.copy_(gain * (variance + module.eps).sqrt())
        module.bias.copy_(offset + gain * mean)
        before[0].copy_(mean)
        before[1].copy_(variance)


Moments = tuple[int, Tensor, Tensor]
"""Count, sum and sum of squares of a norm's input, for each channel."""


@contextmanager
def _measured(model: nn.Module) -> Iterator[dict[nn.BatchNorm2d, Moments]]:
    """The moments of what every norm is given while this lasts."""
    found: dict[nn.BatchNorm2d, Moments] = {}

    def add(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        x = given[0].double()
        if not isinstance(module, nn.BatchNorm2d):
            raise TypeError("only norms are measured")
        count, total, squares = found.get(module, (0, torch.zeros(()), torch.zeros(())))
        found[module] = (count + x[:, 0].numel(), total + x.sum((0, 2, 3)), squares + x.square().sum((0, 2, 3)))

    hooks = [m.register_forward_pre_hook(add) for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def main(
    model: Annotated[Path, typer.Argument(help="model folder, for example models/agcm-live")],
    experiment: Annotated[Path, typer.Argument(help="an experiment with the same network")],
    out: Annotated[Path, typer.Option(help="weights, for an experiment's `init` or for training.engagement")],
    crops: Annotated[Path, typer.Option(help="prepared pictures that the norms are measured on")] = Path(
        "runs/data/ferplus_train.npz"
    ),
) -> None:
    """Make trainable weights of an exported AGCM."""
    try:
        settings, file = load_experiment(experiment), load_model_file(model.name, model.parent)
        samples = load_samples(crops)
        chosen = np.random.default_rng(0).permutation(len(samples))[:_MEASURED]
        restored = restore(settings, file, tensors(samples.take(chosen), settings.crop_px))
        write_atomically(out, restored.state_dict())
    except (DataError, ExperimentError, ManifestError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    print(f"wrote {out}: the network of {file.manifest.name}@{file.manifest.sha256[:12]}, ready to be trained")


if __name__ == "__main__":
    typer.run(main)
