"""The Engine protocol: one compiled network on one device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from engines.spec import Manifest, ManifestError, ModelFile, quantised

Array = npt.NDArray[Any]
Tensors = dict[str, Array]
Device = Literal["cpu", "gpu"]


class EngineError(RuntimeError):
    """A backend cannot load or run; the message says which, why, and what to do."""


class DeviceError(EngineError):
    """A GPU that could be used failed, or has no memory left: nothing that was asked for is wrong."""


class Engine(Protocol):
    """A compiled network. One engine belongs to one thread of one process."""

    @property
    def manifest(self) -> Manifest:
        """The manifest of the network that runs."""
        ...

    @property
    def backend(self) -> str:
        """Backend and precision as printed in every result, for example "openvino/bf16"."""
        ...

    @property
    def device(self) -> Device:
        """Where it runs."""
        ...

    def infer(self, inputs: Mapping[str, Array]) -> Tensors:
        """Run once. Shapes and dtypes are those of the manifest; the returned arrays belong to the caller.

        Raises EngineError on a wrong name, shape or dtype, or when the device fails. Never returns invented values.
        """
        ...

    def close(self) -> None:
        """Release the device. Calling it twice is allowed."""
        ...


@runtime_checkable
class Clocked(Protocol):
    """An engine on a device that has a clock."""

    def timed(self, inputs: Mapping[str, Array]) -> tuple[Tensors, float]:
        """As Engine.infer, and the milliseconds that the device took by its own clock."""
        ...


@runtime_checkable
class Lends(Protocol):
    """An engine whose answers can be read where they lie."""

    def lend(self, inputs: Mapping[str, Array]) -> Tensors:
        """As Engine.infer, of arrays that are read-only to the caller and hold until the next call."""
        ...


@runtime_checkable
class Meets(Protocol):
    """An engine that is faster on shapes that it was made ready for."""

    def meet(self, inputs: Mapping[str, Array]) -> None:
        """Be ready for inputs of these shapes, which takes as long as many calls; as Engine.infer otherwise."""
        ...


def lent(engine: Engine, inputs: Mapping[str, Array]) -> Tensors:
    """For whoever is done with large answers at once: not copied where the engine can do without."""
    return engine.lend(inputs) if isinstance(engine, Lends) else engine.infer(inputs)


def is_finite(array: Array) -> bool:
    """Whether every value is a finite number; without an array of answers, for NaN goes through min and max."""
    return not array.size or (math.isfinite(array.min()) and math.isfinite(array.max()))


class Shaped(Protocol):
    """What has the shape and the dtype of a tensor, wherever its values lie."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...


def check_inputs(manifest: Manifest, inputs: Mapping[str, Shaped]) -> None:
    """Raise EngineError unless `inputs` has the names, dtypes and shapes of the manifest."""
    wanted = {spec.name: spec for spec in manifest.inputs}
    if set(inputs) != set(wanted):
        raise EngineError(f"{manifest.name} takes inputs {sorted(wanted)}, got {sorted(inputs)}")
    for name, array in inputs.items():
        spec = wanted[name]
        fits = len(array.shape) == len(spec.shape) and all(
            want == have or (want == -1 and have > 0) for want, have in zip(spec.shape, array.shape, strict=True)
        )
        if array.dtype != np.dtype(spec.dtype) or not fits:
            raise EngineError(
                f"{manifest.name} input {name!r} is {spec.dtype}{list(spec.shape)}, "
                f"got {array.dtype}{list(array.shape)}"
            )


def check_names(manifest: Manifest, inputs: Set[str], outputs: Set[str]) -> None:
    """Raise EngineError unless a compiled network with these inputs and outputs has those of the manifest."""
    missing = [f"input {spec.name}" for spec in manifest.inputs if spec.name not in inputs]
    missing += [f"output {spec.name}" for spec in manifest.outputs if spec.name not in outputs]
    if missing:
        raise EngineError(f"{manifest.name}: {manifest.file} has no {', '.join(missing)}; export the model again")


def int8_of(model: ModelFile, form: str) -> ModelFile:
    """The int8 file of a network. Raises EngineError if there is none, or it cannot be used."""
    try:
        found = quantised(model, form)
    except ManifestError as error:
        raise EngineError(str(error)) from error
    if found is None:
        name = model.path.parent.name
        raise EngineError(
            f"{name} has no int8 file of form {form}; make one with: python -m calibration.int8 --model {name}"
        )
    return found
