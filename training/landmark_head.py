"""Landmarks for a network that ships without them: `python -m training.landmark_head models/agcm-live CROPS.npz`.

The network stays what it is. What its attention looks at is given to a small head (training.agcm.landmarks), which is
fitted on crops that were moved by amounts that are known and then joined to the graph. Every other answer is the one it
was, bit by bit, and that is checked; so what was measured of the network still holds, and its manifest keeps it.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import torch
import typer
from rich.progress import track

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.backend_openvino import OpenVinoEngine
from engines.base import Engine, EngineError
from engines.preprocess import to_tensor
from engines.spec import CropSpec, Manifest, ManifestError, ModelFile, TensorSpec, model_at
from training.agcm.landmarks import POINTS, Landmarks
from training.agcm.losses import landmark_loss
from training.data.augment import Augment, vary
from training.data.pictures import DataError
from training.data.samples import MARGIN_PX, Samples, join
from training.data.samples import load as load_samples
from training.data.writing import replaced
from training.evaluate import parts_of
from training.feed import placed, rate
from training.graphs import graph_of

F32 = npt.NDArray[np.float32]
HOW: Final = Augment(rotate_deg=12.0, shift_px=6.0)
"""How crops are moved: more than a head moves between two pictures."""
_HIDDEN, _BATCH, _PEAK_RATE, _CHECKED = 64, 64, 2e-3, 64
_LOOKED_AT: Final = ("system.attention.mix.weight", "system.attention.folded")
"""What reads the features, the mixtures of them before the kernel that would read them itself."""


class HeadError(RuntimeError):
    """The head cannot be joined to this network; nothing was written."""


def features_of(network: onnx.ModelProto) -> str:
    """The name of what the attention of an exported AGCM looks at. Raises HeadError if it has no such attention."""
    for weight in _LOOKED_AT:
        for node in network.graph.node:
            if node.op_type == "Conv" and weight in node.input:
                return str(node.input[0])
    raise HeadError("only AGCM's network has features that an attention looks at")


def opened(file: ModelFile, folder: Path) -> Engine:
    """The network up to its features, as an engine that answers with them alone. folder: where its file is kept."""
    network = onnx.load(file.path)
    name = features_of(network)
    del network.graph.output[:]
    network.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    path = folder / "features.onnx"
    onnx.save(network, path)
    manifest = msgspec.structs.replace(file.manifest, outputs=(TensorSpec(name, "float32", (-1, -1, -1, -1)),))
    return OpenVinoEngine(ModelFile(path, manifest), threads=2)


def views(samples: Samples, rows: npt.NDArray[np.intp], spec: CropSpec, rng: np.random.Generator) -> tuple[F32, F32]:
    """Moved crops as the network takes them [N, 1, S, S], and where their five points lie [N, 5, 2]."""
    moved = [vary(samples.crops[row], MARGIN_PX, spec.size_px, HOW, rng) for row in rows]
    points = [placed(view, True, samples.crops.shape[1]) for view in moved]
    return to_tensor(np.stack([view.luma for view in moved]), spec), np.stack(points)


def batches(count: int, epochs: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.intp]]:
    """Row numbers, everyone once an epoch."""
    for _ in range(epochs):
        order = rng.permutation(count)
        yield from np.array_split(order, max(1, count // _BATCH))


def fitted(engine: Engine, samples: Samples, spec: CropSpec, epochs: int, seed: int) -> Landmarks:
    """A head on the features that `engine` answers with."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    name = engine.manifest.outputs[0].name
    steps = list(batches(len(samples), epochs, rng))
    head: Landmarks | None = None
    for number, rows in enumerate(track(steps, description="landmarks")):
        crops, points = views(samples, rows, spec, rng)
        features = torch.from_numpy(engine.infer({"crop": crops})[name])
        if head is None:
            head = Landmarks(features.shape[1], _HIDDEN)
            optimizer = torch.optim.AdamW(head.parameters(), weight_decay=1e-3)
        for group in optimizer.param_groups:
            group["lr"] = _PEAK_RATE * rate(number, len(steps))
        loss = landmark_loss(head(features), torch.from_numpy(points))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
    if head is None:
        raise DataError("no crops to learn from")
    return head.eval()


def joined(network: onnx.ModelProto, head: Landmarks) -> onnx.ModelProto:
    """The network with the head's answer as one more output, `landmarks`."""
    channels = head.channels
    free = ({0: torch.export.Dim.DYNAMIC},)
    part = graph_of(head, (torch.zeros(3, channels, 7, 7),), (["features"], ["landmarks"]), free)
    kept = [port.name for port in network.graph.output]
    name = features_of(network)
    features = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["faces", channels, None, None])
    network.graph.output.append(features)
    part = onnx.compose.add_prefix(part, "landmarks/", rename_outputs=False, rename_inputs=False)
    whole = onnx.compose.merge_models(
        network, part, io_map=[(name, "features")], outputs=[*kept, "landmarks"], producer_name=network.producer_name
    )
    del whole.opset_import[:]
    whole.opset_import.extend(network.opset_import)  # both are of one; named twice, not every reader takes it
    whole.graph.name = network.graph.name
    whole.graph.output[-1].type.tensor_type.shape.dim[0].dim_param = "faces"
    onnx.checker.check_model(whole, full_check=True)
    return whole


def described(before: Manifest, content: bytes) -> Manifest:
    """The manifest of the network with landmarks."""
    outputs = (*before.outputs, TensorSpec("landmarks", "float32", (-1, POINTS, 2)))
    return msgspec.structs.replace(before, outputs=outputs, sha256=hashlib.sha256(content).hexdigest())


def check(before: ModelFile, after: ModelFile, head: Landmarks, engine: Engine, crops: F32) -> None:
    """Raises HeadError unless the joined network answers what both parts do."""
    was, now = (OnnxRuntimeEngine(file).infer({"crop": crops}) for file in (before, after))
    if changed := [name for name, value in was.items() if not np.array_equal(value, now[name])]:
        raise HeadError(f"with landmarks the network answers otherwise: {', '.join(changed)}")
    with torch.no_grad():
        said = head(torch.from_numpy(engine.infer({"crop": crops})[engine.manifest.outputs[0].name])).numpy()
    if not np.abs(said - now["landmarks"]).max() <= 1e-4:
        raise HeadError("the joined head does not answer what the fitted one does")


def given(file: ModelFile, parts: list[Samples], epochs: int, seed: int) -> tuple[bytes, Manifest]:
    """The network with landmarks that are learnt from these crops, and its manifest. Raises HeadError if it cannot have
    any, or has some."""
    spec, _ = parts_of(file.manifest)
    if any(port.name == "landmarks" for port in file.manifest.outputs):
        raise HeadError(f"{file.manifest.name} has landmarks already")
    samples = join(parts)
    samples = samples.take(np.nonzero(samples.found)[0])
    with tempfile.TemporaryDirectory() as folder:
        engine = opened(file, Path(folder))
        head = fitted(engine, samples, spec, epochs, seed)
        content = joined(onnx.load(file.path), head).SerializeToString(deterministic=True)
        manifest, path = described(file.manifest, content), Path(folder) / "model.onnx"
        path.write_bytes(content)
        rows = np.arange(min(_CHECKED, len(samples)))
        check(file, ModelFile(path, manifest), head, engine, views(samples, rows, spec, np.random.default_rng(seed))[0])
    return content, manifest


def main(
    model: Annotated[Path, typer.Argument(help="model folder, for example models/agcm-live")],
    crops: Annotated[list[Path], typer.Argument(help="prepared crops to learn from")],
    out: Annotated[Path | None, typer.Option(help="model folder to write; default: the same")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="how often each crop is looked at")] = 4,
    seed: Annotated[int, typer.Option(help="of the moves and of the order")] = 0,
) -> None:
    """Give an exported AGCM landmarks, so that live a face is followed without optical flow."""
    folder = model if out is None else out
    try:
        content, manifest = given(model_at(str(model)), [load_samples(path) for path in crops], epochs, seed)
        manifest = msgspec.structs.replace(manifest, name=folder.name, file="model.onnx")
        with replaced(folder / "model.onnx") as network, replaced(folder / "manifest.json") as described_in:
            network.write_bytes(content)
            described_in.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    except (DataError, EngineError, HeadError, ManifestError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    print(f"wrote {folder}: {manifest.identity} says where the face lies in its crop; all else as before")


if __name__ == "__main__":
    typer.run(main)
