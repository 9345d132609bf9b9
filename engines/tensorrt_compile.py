"""ONNX to a TensorRT engine: parse, give the open shapes their ranges, compile. A named target needs no GPU.

Both of NVIDIA's packages are taken: `tensorrt`, and `tensorrt_rtx`, which is whole on the public index. Engines are
strongly typed, which `tensorrt` before 11 does only where it is told to, so that the precision of an engine is that of
the ONNX graph: fp16 is a graph that was cast, and fp32 is not TF32.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engines.base import EngineError
from engines.spec import TensorSpec

LIBRARIES: Final = ("tensorrt", "tensorrt_rtx")
PRECISIONS: Final = ("fp32", "fp16", "int8")
RULES: Final = 2
"""Part of what engines are kept under: goes up when `compiled` or `in_precision` makes something else of a network."""
CURRENT: Final = "current"
"""The target that is the GPU of this machine."""

Range = tuple[int, int, int]
"""Least, usual and most of an open dimension."""
RANGES: Final[Mapping[str, Mapping[int, Range]]] = {
    "crop": {0: (1, 1, 64)},
    "luma": {2: (32, 192, 640), 3: (32, 320, 640)},
    "samples": {1: (160, 480, 16_000)},
    "frame": {2: (16, 720, 2160), 3: (16, 1280, 3840)},
    "places": {0: (1, 1, 64)},
    "rows": {0: (33, 193, 641)},
    "columns": {0: (33, 321, 641)},
}
"""Of the open dimensions of every input that a network has: faces at once; the sides of what the detector sees; samples
of a voice, a second at most; the sides of a frame, and the edges of what the detector sees of it."""


@dataclass(frozen=True, slots=True)
class Library:
    """One of NVIDIA's packages, loaded."""

    module: Any
    name: str
    version: str


def library() -> Library:
    """The first of LIBRARIES that can be imported. Raises EngineError with what to install."""
    reasons = []
    for name in LIBRARIES:
        try:
            module = importlib.import_module(name)
        except (ImportError, OSError) as error:  # OSError: a part of the package, such as the parser, is missing
            reasons.append(f"{name}: {error}")
            continue
        return Library(module, name, module.__version__)
    raise EngineError(
        f"TensorRT cannot load ({'; '.join(reasons)}); install it with: pip install tensorrt-rtx==1.7.1.116"
    )


def targets(found: Library) -> tuple[str, ...]:
    """What engines can be compiled for: this machine's GPU, and with tensorrt_rtx, kinds of GPU by their name."""
    kinds = getattr(found.module, "ComputeCapability", None)
    named = [] if kinds is None else [name.lower() for name in kinds.__members__ if name.startswith("SM")]
    return (CURRENT, *named)


def started(what: Callable[[Any], Any], found: Library, log: Log) -> Any:
    """A builder or runtime of the library. Raises EngineError: where the driver is too old for it, or the GPU unknown,
    its constructors raise whatever their bindings do, and the reason is in the log."""
    try:
        return what(log.logger)
    except Exception as error:
        reason = log.last or " ".join(str(error).split()) or type(error).__name__
        raise EngineError(
            f"{found.name} {found.version} cannot start ({reason}); does it fit the driver that nvidia-smi names?"
        ) from error


def in_precision(network: bytes, precision: str) -> bytes:
    """The ONNX file in a precision; inputs and outputs stay float32. int8 has a file of its own (calibration.int8),
    which is taken as it is. Raises EngineError for a precision that is not known."""
    if precision not in PRECISIONS:
        raise EngineError(f"tensorrt runs {', '.join(PRECISIONS)}, not {precision}")
    if precision != "fp16":
        return network
    import onnx  # for a GPU alone
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = onnx.load_from_string(network)
    if any(weight.data_type == onnx.TensorProto.FLOAT16 for weight in model.graph.initializer):
        return network  # engines.frame has cast the part of it that may be
    cast = OnnxModel(convert_float_to_float16(model, keep_io_types=True))
    cast.topological_sort()  # the casts of inputs come last in what the converter makes
    return bytes(cast.model.SerializeToString())


def shape_ranges(spec: TensorSpec) -> list[tuple[int, ...]]:
    """Least, usual and largest shape of an input. Raises EngineError if nobody has said how large it may become."""
    known = RANGES.get(spec.name, {})
    shapes = []
    for i in range(3):
        shape = tuple(known[axis][i] if size == -1 and axis in known else size for axis, size in enumerate(spec.shape))
        if -1 in shape:
            raise EngineError(f"input {spec.name!r} is open in dimension {shape.index(-1)}: RANGES says nothing of it")
        shapes.append(shape)
    return shapes


@dataclass(frozen=True, slots=True)
class Compiled:
    """A serialised engine, and what the library found kernels to take, for the next network; b"" if nothing."""

    engine: bytes
    timings: bytes


def compiled(
    network: bytes, inputs: Sequence[TensorSpec], target: str, found: Library, timings: bytes = b""
) -> Compiled:
    """timings: of an earlier network, for the same library and target; what the library does not take it measures anew.
    Raises EngineError, one line, if the network cannot be parsed or compiled."""
    trt = found.module
    if target not in targets(found):
        raise EngineError(f"{found.name} {found.version} compiles for {', '.join(targets(found))}, not {target!r}")
    log = Log(trt)
    builder = started(trt.Builder, found, log)
    definition = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(definition, log.logger)
    if not parser.parse(network):
        errors = [" ".join(str(parser.get_error(i)).split()) for i in range(parser.num_errors)]
        raise EngineError(
            f"{found.name} {found.version} cannot read the network: {errors[0] if errors else 'no reason'}"
        )
    settings, profile = builder.create_builder_config(), builder.create_optimization_profile()
    for spec in inputs:
        if -1 in spec.shape:
            profile.set_shape(spec.name, *shape_ranges(spec))
    if settings.add_optimization_profile(profile) < 0:
        raise EngineError(f"{found.name} {found.version} does not take the sizes of the inputs: {log.last}")
    settings.clear_flag(trt.BuilderFlag.TF32)
    if hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):
        # Work of tensorrt_rtx can only be recorded where it allocates nothing by itself.
        settings.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if target != CURRENT:
        settings.num_compute_capabilities = 1
        settings.set_compute_capability(trt.ComputeCapability.__members__[target.upper()], 0)
    # tensorrt_rtx deprecates such a cache: it tries kernels on the GPU, when an engine first runs.
    measured = settings.create_timing_cache(timings) if found.name == "tensorrt" else None
    if measured is not None:
        settings.set_timing_cache(measured, False)
    engine = builder.build_serialized_network(definition, settings)
    if engine is None:
        raise EngineError(
            f"{found.name} {found.version} cannot compile for {target}: {log.last or 'it gives no reason'}"
        )
    return Compiled(bytes(engine), b"" if measured is None else bytes(measured.serialize()))


def _strongly_typed(trt: Any) -> int:
    """The flag that asks for it; none where there is no other network."""
    flag = getattr(getattr(trt, "NetworkDefinitionCreationFlag", None), "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


class Log:
    """TensorRT's messages, of which the last error is kept: the library returns None and says why only here. logger: to
    be given to it."""

    def __init__(self, trt: Any) -> None:
        self.last = ""
        log = self

        class Logger(trt.ILogger):  # type: ignore[misc]  # the module is loaded by name
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, text: str) -> None:
                if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                    log.last = " ".join(text.split())

        self.logger = Logger()
