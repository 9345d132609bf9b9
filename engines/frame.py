"""Networks that read a whole frame: the picture goes in once as it was captured, a few hundred numbers come out.

Cropping, scaling and normalising become part of the ONNX graph, and so does what the host would look up in the large
outputs: a frame goes to the device once, and no crop and no map comes back. The networks are made from those that ship
and mean the same; where they run on a CPU, cutting crops with OpenCV is cheaper.

    face:      frame uint8 [1, 1, H, W], places [B, 2, 3]  ->  answer [B, N]
    detector:  frame uint8 [1, 1, H, W], rows [h + 1], columns [w + 1]  ->  cells [1, 17, 64]

places: the similarity that maps pixels of a crop to pixels of the frame. rows, columns: where the pixels of the
detector's picture begin and end in the frame.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from engines.base import Array, EngineError, Tensors
from engines.frame_parts import CANDIDATES, answer_back, cells_back, detector_front, face_front
from engines.preprocess import Affine, Luma, inverse
from engines.spec import Manifest, ModelFile, TensorSpec
from engines.tensorrt_compile import in_precision

CELL: Final = 17
"""Numbers of a cell: row, column, heat, size 2, offset 2, landmarks 10."""
_FRAME: Final = TensorSpec("frame", "uint8", (1, 1, -1, -1))
_OPSET: Final = 18


def places_of(affines: Sequence[Affine]) -> Array:
    """The input `places` [B, 2, 3] of crops, from the similarities that map the picture to each of them."""
    return np.stack([inverse(affine) for affine in affines]).astype(np.float32)


def edges(side_px: int, count: int) -> Array:
    """Where `count` pixels of equal width that cover `side_px` begin and end, [count + 1]."""
    return np.linspace(0, side_px, count + 1, dtype=np.float32)


def plane(luma: Luma) -> Array:
    """The input `frame` of a luma plane [H, W]."""
    return luma[None, None]


def tensors_of(answer: Array, manifest: Manifest) -> Tensors:
    """The outputs of the network that ships, by name, with `peaks` [B, K, 2] in the place of `maps`, out of the answer
    [B, N] of its frame network. manifest: of the network that ships."""
    tensors, at = {}, 0
    for name, shape in _layout(manifest):
        count = math.prod(shape)
        tensors[name] = answer[:, at : at + count].reshape(-1, *shape)
        at += count
    return tensors


def face_network(model: ModelFile, precision: str = "fp32") -> tuple[bytes, Manifest]:
    """The concept network that reads a frame. What is added stays float32 in every precision: the numbers of fp16 are
    too coarse for places. Raises EngineError if the model has no crops or no maps."""
    manifest, crop = model.manifest, model.manifest.crop
    maps = next((spec for spec in manifest.outputs if spec.name == "maps"), None)
    if crop is None or maps is None or -1 in maps.shape[1:]:
        raise EngineError(f"{manifest.name} cannot read frames: it has no crop, or no maps of a known size")
    layout = _layout(manifest)
    front, back = face_front(crop), answer_back(layout, *maps.shape[2:])
    names = [name for name, _ in layout if name != "peaks"]
    network = _joined(model, precision, front, back, ["crop"], ["maps", *names])
    inputs = (_FRAME, TensorSpec("places", "float32", (-1, 2, 3)))
    count = sum(math.prod(shape) for _, shape in layout)
    return network, _derived(manifest, inputs, TensorSpec("answer", "float32", (-1, count)))


def detector_network(model: ModelFile) -> tuple[bytes, Manifest]:
    """The detector that reads a frame."""
    outputs = ["heatmap", "size", "offset", "landmarks"]
    network = _joined(model, "fp32", detector_front(), cells_back(), ["luma"], outputs)
    inputs = (_FRAME, TensorSpec("rows", "float32", (-1,)), TensorSpec("columns", "float32", (-1,)))
    return network, _derived(model.manifest, inputs, TensorSpec("cells", "float32", (1, CELL, CANDIDATES)))


def kept(network: bytes, manifest: Manifest, cache: Path) -> ModelFile:
    """The network as a file under a name made of its content, for the backends, which read files."""
    path = cache / f"{manifest.name}-frame-{hashlib.sha256(network).hexdigest()[:32]}.onnx"
    try:
        if not path.is_file():
            cache.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(".part")
            draft.write_bytes(network)
            draft.replace(path)
    except OSError as error:
        raise EngineError(f"{path} cannot be written: {error.strerror}") from error
    return ModelFile(path, manifest)


def _layout(manifest: Manifest) -> list[tuple[str, tuple[int, ...]]]:
    """What an answer consists of, in order: names, and shapes without the faces."""
    outputs = [(spec.name, spec.shape[1:]) for spec in manifest.outputs if spec.name != "maps"]
    return [*outputs, ("peaks", (len(manifest.concepts), 2))]


def _derived(manifest: Manifest, inputs: tuple[TensorSpec, ...], output: TensorSpec) -> Manifest:
    """The manifest of a frame network; its name and identity stay those of the network that ships."""
    return msgspec.structs.replace(manifest, inputs=inputs, outputs=(output,))


def _joined(model: ModelFile, precision: str, front: Any, back: Any, into: Sequence[str], out: Sequence[str]) -> bytes:
    """front -> model -> back, by the names of the model's inputs and outputs. Raises EngineError if they do not fit."""
    import onnx.compose
    import onnx.version_converter

    network = onnx.load_from_string(in_precision(model.path.read_bytes(), precision))
    if network.opset_import[0].version < _OPSET:
        network = onnx.version_converter.convert_version(network, _OPSET)
    network.ir_version = front.ir_version
    try:
        begun = onnx.compose.merge_models(front, network, [(name, name) for name in into])
        whole = onnx.compose.merge_models(begun, back, [(name, name) for name in out])
    except ValueError as error:
        raise EngineError(f"{model.manifest.name} cannot read frames: {error}") from error
    return bytes(whole.SerializeToString())
