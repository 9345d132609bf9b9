"""What is OpenVINO's own: the contract of all backends is in test_backend_contract."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import openvino
import pytest

from engines.backend_openvino import OpenVinoEngine
from engines.base import EngineError
from engines.spec import ModelFile, load_model_file

_SIGNALS = """
import gc, os, signal, sys
from pathlib import Path
from engines.backend_openvino import OpenVinoEngine
from engines.spec import load_model_file

signal.signal(signal.SIGTERM, lambda *_: print("handled"))
folder = Path(sys.argv[1])
one, two, three = (OpenVinoEngine(load_model_file(folder.name, folder.parent)) for _ in range(3))
one.close(); del one; gc.collect()
three.close(); del three; gc.collect()
two.close(); del two; gc.collect()
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_process_outlives_signals_after_engines_were_closed_in_any_order(tiny: ModelFile) -> None:
    """A session tries several engines, keeps one, and is stopped by a signal."""
    command = [sys.executable, "-c", _SIGNALS, str(tiny.path.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_after_arrays_that_could_not_be_read_others_are(tiny: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("no memory")

    engine = OpenVinoEngine(tiny)
    one = np.random.default_rng(0).random((1, *tiny.manifest.inputs[0].shape[1:]), np.float32)
    name = tiny.manifest.inputs[0].name
    wanted = engine.infer({name: one})
    with monkeypatch.context() as patched, pytest.raises(EngineError, match="no memory"):
        patched.setattr(openvino, "Tensor", refuse)
        engine.infer({name: np.concatenate([one, one])})
    for key, array in engine.infer({name: one}).items():
        np.testing.assert_array_equal(array, wanted[key])
    engine.close()


@pytest.mark.parametrize("capabilities", [None, ["FP32", "INT8"]])
def test_what_int8_leaves_runs_in_bf16_where_the_cpu_has_it(
    capabilities: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = capabilities or openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if capabilities is not None:
        monkeypatch.setattr("engines.backend_openvino._core", lambda: _Without(openvino.Core(), capabilities))
    engine = OpenVinoEngine(load_model_file("agcm-live"), "int8")
    asked = engine._any_shape.get_compiled_model().get_property("INFERENCE_PRECISION_HINT")
    assert asked == (openvino.Type.bf16 if "BF16" in found else openvino.Type.f32)
    engine.close()


class _Without:
    """OpenVINO on a CPU that can do less."""

    def __init__(self, core: openvino.Core, capabilities: list[str]) -> None:
        self._core, self._capabilities = core, capabilities

    def get_property(self, *_names: str) -> list[str]:
        return self._capabilities

    def __getattr__(self, name: str) -> object:
        return getattr(self._core, name)


def test_shapes_that_were_met_have_graphs_of_their_own_and_others_run_as_well(tiny: ModelFile) -> None:
    engine, other = OpenVinoEngine(tiny), OpenVinoEngine(tiny)
    name, rng = tiny.manifest.inputs[0].name, np.random.default_rng(0)

    def crops(count: int) -> dict[str, np.ndarray]:
        return {name: rng.random((count, *tiny.manifest.inputs[0].shape[1:]), np.float32)}

    engine.infer(crops(1))
    for count in (2, 3, 2):
        engine.meet(crops(count))
    assert len(engine._made_for) == 3
    requests = set()
    for count in (1, 2, 3, 4, 5, 2):
        inputs = crops(count)
        for key, array in engine.infer(inputs).items():
            np.testing.assert_allclose(array, other.infer(inputs)[key], atol=1e-5)
        requests.add(id(engine._request))
    assert len(requests) == 4, "one for each that was met, and one for all others"
    assert len(engine._made_for) == 3
    engine.close()
    other.close()
