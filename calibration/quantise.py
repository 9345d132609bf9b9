"""An ONNX network in int8, by ONNX Runtime's quantiser: Q and DQ around every layer that is quantised.

Weights have a scale for each channel. Activations have ranges, chosen on crops. Two forms are written, since runtimes
want different ones: ONNX Runtime and OpenVINO are fastest with unsigned activations whose zero may lie anywhere;
TensorRT takes signed, symmetric ones, and biases that are not quantised.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
Form = Literal["u8", "s8"]
FORMS: Final[Mapping[Form, tuple[str, Mapping[str, bool]]]] = {
    "u8": ("QUInt8", {"ActivationSymmetric": False, "WeightSymmetric": True}),
    "s8": ("QInt8", {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}),
}
"""The quantiser's type of activations, and its options."""
METHODS: Final[Mapping[str, str]] = {"percentile": "Percentile", "minmax": "MinMax", "entropy": "Entropy"}
"""The quantiser's names."""
_LAYERS: Final = ("Conv", "Gemm", "MatMul")
_ENTROPY: Final = {"num_bins": 1024, "num_quantized_bins": 128}
"""Bins of the histograms, and how many they are merged into to see what is lost."""


class Quantiser:
    """One network in one form. Ranges are found once, on the first call of `write`, and kept in `folder`."""

    def __init__(self, network: Path, inputs: Mapping[str, F32], form: Form, method: str, folder: Path) -> None:
        """inputs: tensors [N, ...] that the ranges are chosen on."""
        import onnx  # nothing that runs live needs it, so that it is asked for here alone
        from onnxruntime.quantization.shape_inference import quant_pre_process

        self._prepared, self._ranges = folder / "prepared.onnx", folder / f"{form}.ranges"
        self._inputs, self._form, self._method = inputs, form, method
        with _quiet():
            quant_pre_process(str(network), str(self._prepared), skip_optimization=True, skip_symbolic_shape=True)
        model = onnx.load(self._prepared)
        for i, node in enumerate(model.graph.node):
            node.name = node.name or f"{node.op_type}_{i}"  # layers are left out by their names
        onnx.save(model, self._prepared)
        self.layers: tuple[str, ...] = tuple(node.name for node in model.graph.node if node.op_type in _LAYERS)

    def write(self, out: Path, layers: Sequence[str]) -> None:
        """The network with these layers in int8, and the others as they are."""
        from onnxruntime import quantization as library

        activations, options = FORMS[self._form]
        with _quiet():
            if self._method == "entropy" and not self._ranges.is_file():
                self._by_entropy()
            library.quantize_static(
                self._prepared,
                out,
                _Rows(self._inputs),
                quant_format=library.QuantFormat.QDQ,
                per_channel=True,
                op_types_to_quantize=list(_LAYERS),
                activation_type=library.QuantType[activations],
                weight_type=library.QuantType.QInt8,
                nodes_to_exclude=[name for name in self.layers if name not in set(layers)],
                calibrate_method=library.CalibrationMethod[METHODS[self._method]],
                extra_options=dict(options),
                calibration_cache_path=self._ranges,
            )

    def _by_entropy(self) -> None:
        """The ranges. Left to itself the quantiser merges 128 bins into 128, which leaves nothing to choose: the ranges
        are those of minmax."""
        from onnxruntime.quantization import calibrate

        own = calibrate.create_calibrator(
            self._prepared,
            list(_LAYERS),
            augmented_model_path=str(self._ranges.with_suffix(".onnx")),
            calibrate_method=calibrate.CalibrationMethod.Entropy,
            extra_options=dict(_ENTROPY),
        )
        own.collect_data(_Rows(self._inputs))
        calibrate.save_tensors_data(own.compute_data(), self._ranges)


class _Rows:
    """What the quantiser calls a reader: one row at a time."""

    def __init__(self, inputs: Mapping[str, F32]) -> None:
        count = len(next(iter(inputs.values())))
        self._rows = iter({name: rows[i : i + 1] for name, rows in inputs.items()} for i in range(count))

    def get_next(self) -> dict[str, Any] | None:
        return next(self._rows, None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser prints what it does, and warns of what is chosen here on purpose."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
