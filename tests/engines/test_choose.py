"""Choosing an engine: by name without fallback, or by measurement."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import openvino
import pytest

from engines.backends import BACKENDS
from engines.base import Array, EngineError
from engines.choose import TOLERANCE, Candidate, Choice, choose, disagreement, load
from engines.spec import ModelFile

ROOT = Path(__file__).parents[2]
HAS_BF16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
ON_CPU = [name for name, row in BACKENDS.items() if not row.driver]
needs_bf16 = pytest.mark.skipif(not HAS_BF16, reason="this CPU has no bf16")


def hide(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    """Make `import library` fail as it does where the library is not installed."""
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, BACKENDS[library].module, raising=False)


@pytest.mark.parametrize("name", ["caffe", "nonsense"])
def test_a_backend_that_this_version_lacks_is_named_with_those_it_has(
    name: str, tiny: ModelFile, sample: dict[str, Array]
) -> None:
    with pytest.raises(
        EngineError, match=f"this version has no '{name}' engine; it has onnxruntime, openvino, tensorrt, torch"
    ) as told:
        load(name, tiny, None, 1, sample)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ON_CPU)
def test_a_named_backend_that_is_not_installed_says_what_to_install(
    name: str, tiny: ModelFile, sample: dict[str, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, name)
    with pytest.raises(EngineError, match=f"engine {name} cannot load .*; install it with: ") as told:
        load(name, tiny, None, 1, sample)
    assert str(told.value).endswith(BACKENDS[name].install)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("rest_s", [0.0, 0.25])
def test_each_timed_call_comes_after_a_rest(
    tiny: ModelFile, sample: dict[str, Array], monkeypatch: pytest.MonkeyPatch, rest_s: float
) -> None:
    rested: list[float] = []
    monkeypatch.setattr(time, "sleep", rested.append)
    choose("onnxruntime", tiny, "fp32", 1, sample, rest_s=rest_s).engine.close()
    assert rested
    assert set(rested) == {rest_s}


def test_auto_takes_what_is_there_and_says_what_is_not(
    tiny: ModelFile, sample: dict[str, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, "openvino")
    chosen = choose("auto", tiny, None, 1, sample)
    assert chosen.engine.backend == "onnxruntime/fp32"
    assert {row.name for row in chosen.choice.others} == {"openvino/fp32", "openvino/bf16"}
    assert "not openvino/fp32: engine openvino cannot load" in chosen.choice.summary()
    chosen.engine.close()


def test_auto_does_not_load_what_is_taken_by_name_alone(tiny: ModelFile) -> None:
    """In a process of its own, since tests load it."""
    script = (
        "import sys, numpy as np; from pathlib import Path; from engines.choose import load; "
        "from engines.spec import load_model_file; path = Path(sys.argv[1]); "
        "load('auto', load_model_file(path.name, path.parent), None, 1, {'crop': np.zeros((1, 1, 112, 112), 'f4')}); "
        "print('torch' in sys.modules, 'onnxruntime' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tiny.path.parent)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True"]


def test_auto_without_any_library_names_them_all(
    tiny: ModelFile, sample: dict[str, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ON_CPU:
        hide(monkeypatch, name)
    with pytest.raises(EngineError, match=r"onnxruntime cannot load .*openvino cannot load"):
        load("auto", tiny, None, 1, sample)


def test_a_precision_that_no_backend_has_is_refused(tiny: ModelFile, sample: dict[str, Array]) -> None:
    with pytest.raises(EngineError, match="onnxruntime has no precision 'bf16'; it has fp32"):
        load("onnxruntime", tiny, "bf16", 1, sample)
    with pytest.raises(EngineError, match="auto has no precision 'int3'; it has bf16, fp32"):
        load("auto", tiny, "int3", 1, sample)


def test_less_than_no_threads_is_refused(tiny: ModelFile, sample: dict[str, Array]) -> None:
    with pytest.raises(EngineError, match=r"at least 1 thread.*got -1"):
        load("auto", tiny, None, -1, sample)


@pytest.mark.parametrize("name", ON_CPU)
def test_a_file_that_is_no_network_is_one_clear_line(
    name: str, tiny: ModelFile, sample: dict[str, Array], tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a network")
    with pytest.raises(EngineError, match=f"{name} cannot load .*model.onnx") as told:
        load(name, ModelFile(path, tiny.manifest), "fp32", 1, sample)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ON_CPU)
def test_a_network_that_is_not_the_manifests_is_refused(
    name: str, detector_file: ModelFile, tiny: ModelFile, sample: dict[str, Array]
) -> None:
    with pytest.raises(EngineError, match="has no input crop, output activation, output active"):
        load(name, ModelFile(detector_file.path, tiny.manifest), "fp32", 1, sample)


@pytest.mark.parametrize("name", ON_CPU)
def test_a_network_that_cannot_take_the_inputs_is_one_clear_line(
    name: str, tiny: ModelFile, sample: dict[str, Array]
) -> None:
    """The manifest promises any size, the network takes 112 px alone."""
    inputs = (msgspec.structs.replace(tiny.manifest.inputs[0], shape=(-1, 1, -1, -1)),)
    loose = ModelFile(tiny.path, msgspec.structs.replace(tiny.manifest, inputs=inputs))
    with pytest.raises(EngineError, match=f"^{name}.* tiny") as told:
        load(name, loose, "fp32", 1, {"crop": np.zeros((1, 1, 50, 50), np.float32)})
    assert "\n" not in str(told.value)


def test_auto_takes_the_fastest_that_it_measured(tiny: ModelFile, sample: dict[str, Array]) -> None:
    chosen = choose("auto", tiny, None, 1, sample)
    taken, others = chosen.choice.taken, chosen.choice.others
    assert chosen.engine.backend == taken.name
    assert {taken.name, *(row.name for row in others)} == {"onnxruntime/fp32", "openvino/fp32", "openvino/bf16"}
    assert all(taken.median_ms <= row.median_ms for row in others if not row.passed_over)
    assert chosen.choice.summary().startswith(f"engine: {taken.name} (")
    chosen.engine.close()


def test_auto_keeps_to_the_precision_that_is_asked_for(tiny: ModelFile, sample: dict[str, Array]) -> None:
    chosen = choose("auto", tiny, "fp32", 1, sample)
    assert chosen.choice.taken.precision == "fp32"
    assert {row.precision for row in chosen.choice.others} == {"fp32"}
    chosen.engine.close()


@needs_bf16
@pytest.mark.parametrize("name", ["auto", "openvino"])
def test_bf16_that_changes_the_activations_is_passed_over(
    name: str, sample: dict[str, Array], touchy: ModelFile
) -> None:
    chosen = choose(name, touchy, None, 1, sample)
    (bf16,) = (row for row in chosen.choice.others if row.precision == "bf16")
    assert "activation is" in bf16.passed_over
    assert f"not openvino/bf16: {bf16.passed_over}" in chosen.choice.summary()
    chosen.engine.close()


@needs_bf16
def test_every_row_that_a_precision_is_judged_on_must_agree(sample: dict[str, Array], tiny: ModelFile) -> None:
    harsh = {name: np.concatenate([array, 200 * array]) for name, array in sample.items()}
    for judge, passed_over in ((sample, False), (harsh, True)):
        chosen = choose("openvino", tiny, None, 1, sample, judge)
        rows = (chosen.choice.taken, *chosen.choice.others)
        assert [bool(row.passed_over) for row in rows if row.precision == "bf16"] == [passed_over]
        chosen.engine.close()


@needs_bf16
def test_bf16_by_name_is_taken_as_it_is(sample: dict[str, Array], touchy: ModelFile) -> None:
    engine = load("openvino", touchy, "bf16", 1, sample)
    assert engine.backend == "openvino/bf16"
    engine.close()


def test_agreement_is_judged_by_activations_and_score() -> None:
    reference = {"activation": np.array([[0.5, 0.5]]), "active": np.array([[1.0, 1.0]])}
    near = {"activation": reference["activation"] + 0.9 * TOLERANCE["activation"], "active": np.array([[1.0, 1.1]])}
    far = {**near, "activation": reference["activation"] + [[0.0, 1.1 * TOLERANCE["activation"]]]}
    broken = {**near, "active": np.array([[1.0, np.nan]])}
    scored = {**near, "heads": np.array([[0.6, 7.0]])}
    shifted = {**near, "heads": np.array([[0.6 + 1.5 * TOLERANCE["score"], 7.0]])}
    retold = {**near, "heads": np.array([[0.6, 7.1]])}
    assert disagreement(reference, reference) == ""
    assert disagreement(near, reference) == ""
    assert disagreement(far, reference) == "activation is 0.022 off fp32, more than 0.02"
    assert disagreement(broken, reference) == "active is not finite"
    assert disagreement(shifted, scored) == "score is 0.030 off fp32, more than 0.02"
    assert disagreement(retold, scored) == ""


def test_the_summary_is_one_line_with_the_fastest_first() -> None:
    taken = Candidate("openvino", "bf16", 0.91)
    others = (Candidate("onnxruntime", "fp32", 1.62), Candidate("openvino", "fp32", 1.33))
    assert Choice(taken, others).summary() == (
        "engine: openvino/bf16 (0.9 ms; openvino/fp32 1.3, onnxruntime/fp32 1.6)"
    )
    assert Choice(taken, ()).summary() == "engine: openvino/bf16 (0.9 ms)"
    without = (Candidate("onnxruntime", "fp32", passed_over="not installed"),)
    assert Choice(taken, without).summary() == "engine: openvino/bf16 (0.9 ms; not onnxruntime/fp32: not installed)"
