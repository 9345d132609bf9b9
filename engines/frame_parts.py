"""What engines.frame puts before and behind a network, as ONNX graphs in the textual form of the standard.

Each is a model of its own, with the names of the network's inputs and outputs at the seam; all other names begin with
PREFIX.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from engines.base import Array
from engines.spec import CropSpec

Layout = Sequence[tuple[str, tuple[int, ...]]]
"""Names of tensors, and their shapes without the faces."""
PREFIX: Final = "frame/"
"""Of the names of all that is added."""
CANDIDATES: Final = 64
"""Cells of the detector's heatmap that come out, the surest first; the smallest heatmap has as many."""
LEVELS: Final = 4
"""The picture and its halves, of which the crop is cut: a face may be 16 times as large as its crop."""

_HEAD: Final = '<ir_version: 8, opset_import: ["" : 18]>\n'
_FACE: Final = """front (uint8[1,1,height,width] frame, float[faces,2,3] places) => (float[faces,1,side,side] crop) {{
  level0 = Cast <to=1> (frame)
  {halves}
  points = MatMul (places, base)
  points_last = Transpose <perm=[0, 2, 1]> (points)
  column = Slice (places, zero, one, two)
  enlarged = ReduceL2 <keepdims=1> (column, one)
  enlarged4 = Unsqueeze (enlarged, three)
  {samples}
  mixed = Sum ({mixed})
  grey = Round (mixed)
  scaled = Mul (grey, scale)
  crop = Add (scaled, shift)
}}"""
# Each half as cv2.pyrDown makes it: 5 x 5 binomial weights, borders mirrored, rounded.
_HALF: Final = """padded{n} = Pad <mode="reflect"> (level{above}, margins)
  blurred{n} = Conv <strides=[2, 2]> (padded{n}, binomial)
  level{n} = Round (blurred{n})"""
# Halving keeps even pixels: full-resolution x is 2 x of the half. GridSample counts pixel x of n as (2 x + 1) / n - 1.
_SAMPLE: Final = """shape{n} = Shape <start=2> (level{n})
  sides{n} = Cast <to=1> (shape{n})
  height{n} = Slice (sides{n}, zero, one, zero)
  width{n} = Slice (sides{n}, one, two, zero)
  size{n} = Concat <axis=0> (width{n}, height{n})
  doubled{n} = Mul (points_last, twice{n})
  centred{n} = Add (doubled{n}, unit)
  shares{n} = Div (centred{n}, size{n})
  places{n} = Sub (shares{n}, unit)
  grid{n} = Reshape (places{n}, grid_shape)
  sampled{n} = GridSample <mode="bilinear", padding_mode="border", align_corners=0> (level{n}, grid{n})
  crops{n} = Reshape (sampled{n}, crop_shape)
  above{n} = Greater (enlarged4, from{n})
  below{n} = LessOrEqual (enlarged4, to{n})
  within{n} = And (above{n}, below{n})
  weight{n} = Cast <to=1> (within{n})
  part{n} = Mul (crops{n}, weight{n})"""

_ANSWER: Final = """back (float[faces,concepts,h,w] maps, {inputs}) => (float[faces,count] answer) {{
  flat = Reshape (maps, keep_two)
  top = ArgMax <axis=2, keepdims=1> (flat)
  index = Cast <to=1> (top)
  middle = Add (index, half)
  line = Div (middle, wide)
  row = Floor (line)
  before = Mul (row, wide)
  column = Sub (index, before)
  down = Sub (cell_rows, row)
  across = Sub (cell_columns, column)
  down_far = Abs (down)
  across_far = Abs (across)
  far = Max (down_far, across_far)
  near = Less (far, reach)
  around = Where (near, flat, nothing)
  sum = ReduceSum <keepdims=1> (around, last)
  seen = Greater (sum, nothing)
  weight = Where (seen, sum, unit)
  moments_x = Mul (around, across)
  moments_y = Mul (around, down)
  moment_x = ReduceSum <keepdims=1> (moments_x, last)
  moment_y = ReduceSum <keepdims=1> (moments_y, last)
  off_x = Div (moment_x, weight)
  off_y = Div (moment_y, weight)
  left = Sum (column, half, off_x)
  upper = Sum (row, half, off_y)
  x = Div (left, wide)
  y = Div (upper, high)
  peaks = Concat <axis=2> (x, y)
  {flattened}
  answer = Concat <axis=1> ({all})
}}"""

_DETECTOR: Final = """front (uint8[1,1,height,width] frame, float[h1] rows, float[w1] columns)
  => (float[1,1,h,w] luma) {{
  picture = Cast <to=1> (frame)
  {rows}
  {columns}
  columns_last = Transpose <perm=[1, 0]> (columns_weight)
  lines = MatMul (rows_weight, picture)
  small = MatMul (lines, columns_last)
  luma = Round (small)
}}"""
# Weights [n, sides] of the picture's pixels in those of a smaller one, which average what they cover, as
# cv2.INTER_AREA does; in a larger one, those of linear interpolation.
_SCALE: Final = """{s}_low1 = Slice ({s}, zero, minus_one, zero)
  {s}_high1 = Slice ({s}, one, end, zero)
  {s}_low = Unsqueeze ({s}_low1, one)
  {s}_high = Unsqueeze ({s}_high1, one)
  {s}_wide = Sub ({s}_high, {s}_low)
  {s}_shape = Shape <start={axis}, end={after}> (frame)
  {s}_side = Squeeze ({s}_shape, zero)
  {s}_pixels = Range (first, {s}_side, step)
  {s}_begin = Cast <to=1> ({s}_pixels)
  {s}_end = Add ({s}_begin, unit)
  {s}_from = Max ({s}_low, {s}_begin)
  {s}_to = Min ({s}_high, {s}_end)
  {s}_covered = Sub ({s}_to, {s}_from)
  {s}_common = Max ({s}_covered, nothing)
  {s}_area = Div ({s}_common, {s}_wide)
  {s}_both = Add ({s}_low, {s}_high)
  {s}_twice = Mul ({s}_both, half)
  {s}_centre = Sub ({s}_twice, half)
  {s}_sides = Cast <to=1> ({s}_side)
  {s}_most = Sub ({s}_sides, unit)
  {s}_capped = Min ({s}_centre, {s}_most)
  {s}_inside = Max ({s}_capped, nothing)
  {s}_away = Sub ({s}_inside, {s}_begin)
  {s}_far = Abs ({s}_away)
  {s}_tent = Sub ({s}_one, {s}_far)
  {s}_linear = Max ({s}_tent, nothing)
  {s}_shrinks = Greater ({s}_wide, unit)
  {s}_weight = Where ({s}_shrinks, {s}_area, {s}_linear)"""

_CELLS: Final = """back (float[1,1,h,w] heatmap, float[1,2,h,w] size, float[1,2,h,w] offset, float[1,10,h,w] landmarks)
  => (float[1,17,64] cells) {
  all = Concat <axis=1> (heatmap, size, offset, landmarks)
  flat = Reshape (all, keep_two)
  heat = Reshape (heatmap, one_row)
  best, top = TopK <axis=0> (heat, count)
  values = Gather <axis=2> (flat, top)
  shape = Shape <start=3, end=4> (heatmap)
  wide = Cast <to=1> (shape)
  index = Cast <to=1> (top)
  middle = Add (index, half)
  line = Div (middle, wide)
  row = Floor (line)
  before = Mul (row, wide)
  column = Sub (index, before)
  rows = Reshape (row, one_line)
  columns = Reshape (column, one_line)
  cells = Concat <axis=1> (rows, columns, values)
}"""


def face_front(crop: CropSpec) -> Any:
    """frame, places -> crop."""
    text = _FACE.format(
        halves="\n  ".join(_HALF.format(n=n, above=n - 1) for n in range(1, LEVELS)),
        samples="\n  ".join(_SAMPLE.format(n=n) for n in range(LEVELS)),
        mixed=", ".join(f"part{n}" for n in range(LEVELS)),
    )
    return _part(text, _face_constants(crop))


def answer_back(layout: Layout, height: int, width: int) -> Any:
    """maps [B, K, height, width] and what else `layout` names -> answer; the last of it, peaks, is found here."""
    shapes = {name: ", ".join(["faces", *map(str, shape)]) for name, shape in layout[:-1]}
    text = _ANSWER.format(
        inputs=", ".join(f"float[{shape}] {name}" for name, shape in shapes.items()),
        flattened="\n  ".join(f"{name}_row = Reshape ({name}, keep_one)" for name, _ in layout),
        all=", ".join(f"{name}_row" for name, _ in layout),
    )
    return _part(text, _answer_constants(height, width))


def detector_front() -> Any:
    """frame, rows, columns -> luma."""
    scales = [_SCALE.format(s=s, axis=axis, after=axis + 1) for s, axis in (("rows", 2), ("columns", 3))]
    floats = {"unit": [1.0], "nothing": [0.0], "half": [0.5], "rows_one": [1.0], "columns_one": [1.0]}
    integers = {"zero": [0], "one": [1], "minus_one": [-1], "end": [2**31 - 1], "first": 0, "step": 1}
    return _part(_DETECTOR.format(rows=scales[0], columns=scales[1]), _constants(floats, integers))


def cells_back() -> Any:
    """heatmap, size, offset, landmarks -> cells."""
    shapes = {"keep_two": [0, 0, -1], "one_row": [-1], "one_line": [1, 1, -1], "count": [CANDIDATES]}
    return _part(_CELLS, _constants({"half": [0.5]}, shapes))


def _face_constants(crop: CropSpec) -> Mapping[str, Array]:
    side = crop.size_px
    y, x = np.divmod(np.arange(side * side), side)
    binomial = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256
    floats: dict[str, Any] = {
        "base": np.stack([x, y, np.ones_like(x)]),
        "binomial": binomial[None, None],
        "unit": [1.0],
        "scale": [1.0 / (255.0 * crop.std)],
        "shift": [-crop.mean / crop.std],
    }
    for n in range(LEVELS):
        floats[f"twice{n}"] = [2.0 / 2**n]
        floats[f"from{n}"] = [2.0**n if n else -1.0]
        floats[f"to{n}"] = [2.0 ** (n + 1) if n < LEVELS - 1 else np.inf]
    integers = {"zero": [0], "one": [1], "two": [2], "three": [3], "margins": [0, 0, 2, 2, 0, 0, 2, 2]}
    shapes = {"grid_shape": [1, -1, side, 2], "crop_shape": [-1, 1, side, side]}
    return _constants(floats, integers | shapes)


def _answer_constants(height: int, width: int) -> Mapping[str, Array]:
    rows, columns = np.divmod(np.arange(height * width), width)
    floats = {"half": [0.5], "wide": [width], "high": [height], "reach": [1.5], "nothing": [0.0], "unit": [1.0]}
    floats |= {"cell_rows": rows, "cell_columns": columns}
    return _constants(floats, {"keep_two": [0, 0, -1], "keep_one": [0, -1], "last": [2]})


def _constants(floats: Mapping[str, Any], integers: Mapping[str, Any]) -> Mapping[str, Array]:
    return {name: np.asarray(value, np.float32) for name, value in floats.items()} | {
        name: np.asarray(value, np.int64) for name, value in integers.items()
    }


def _part(text: str, constants: Mapping[str, Array]) -> Any:
    """A graph in ONNX's textual form and its constants, all names of which but those of inputs and outputs begin with
    PREFIX."""
    import onnx.compose  # for a GPU alone
    import onnx.parser

    part = onnx.parser.parse_model(_HEAD + text)
    part.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    for i, node in enumerate(part.graph.node):
        node.name = f"{node.op_type}_{i}"
    return onnx.compose.add_prefix(part, f"{PREFIX}{part.graph.name}/", rename_inputs=False, rename_outputs=False)
