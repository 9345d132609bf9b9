"""The table of backends: what runs a network on this machine."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backend:
    """One row of BACKENDS: where its engine class is, which precisions it may run, and how to get it. driver: library
    of the GPU's driver, without which `auto` does not think of it; "" where it can do without. by_name: loading it
    takes seconds, so that `auto` thinks of it only where there is a GPU that nothing else runs on."""

    module: str
    engine: str
    precisions: tuple[str, ...]
    install: str
    driver: str = ""
    by_name: bool = False


# fp32 comes first: the outputs of the first fp32 engine are what a lower precision is compared with.
BACKENDS: Mapping[str, Backend] = {
    "onnxruntime": Backend(
        "engines.backend_onnxruntime", "OnnxRuntimeEngine", ("fp32", "int8"), "pip install 'onnxruntime>=1.22'"
    ),
    "openvino": Backend(
        "engines.backend_openvino", "OpenVinoEngine", ("fp32", "bf16", "int8"), "pip install 'openvino>=2025.2'"
    ),
    "tensorrt": Backend(
        "engines.backend_tensorrt",
        "TensorRtEngine",
        ("fp32", "fp16", "int8"),
        "pip install -e '.[gpu]'",
        "libcuda.so.1",
    ),
    "torch": Backend(
        "engines.backend_torch", "TorchEngine", ("fp32", "fp16"), "pip install -e '.[train]'", by_name=True
    ),
}


def has_driver(backend: Backend) -> bool:
    """Whether this machine has what the backend's kind of device needs before anything of ours is asked."""
    try:
        return not backend.driver or bool(ctypes.CDLL(backend.driver))
    except OSError:
        return False
