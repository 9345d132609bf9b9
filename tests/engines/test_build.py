"""What ships compiles for TensorRT, for which no GPU is needed; running it needs one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("onnx")
pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed: pip install -e '.[dev]' on Linux, x86-64")

from engines import tensorrt_compile
from engines.base import EngineError, int8_of
from engines.build import engine_of
from engines.spec import MODELS_DIR, ModelFile, TensorSpec, available, load_model_file, quantised
from engines.tensorrt_compile import Library, compiled, in_precision, library, shape_ranges, targets

ROOT = Path(__file__).parents[2]
SHIPPED = [name for name in available() if (MODELS_DIR / name / "model.onnx").is_file()]
IN_INT8 = [name for name in SHIPPED if quantised(load_model_file(name), "s8") is not None]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.filterwarnings("ignore:the float32 number:UserWarning")  # a floor of 1e-10 becomes the least fp16 has
def test_a_network_that_ships_compiles_for_tensorrt(name: str, precision: str, tmp_path: Path) -> None:
    found = library()
    file = load_model_file(name)
    first = engine_of(file, precision, "sm86", "", found, tmp_path)
    assert first.because == "there was none yet"
    assert len(first.engine) > file.path.stat().st_size / 4
    again = engine_of(file, precision, "sm86", "", found, tmp_path)
    assert (again.because, again.engine) == ("", first.engine)
    first.path.write_bytes(first.engine[:-1])
    assert (
        engine_of(file, precision, "sm86", "", found, tmp_path).because == "the one there was is cut off or was changed"
    )


@pytest.mark.parametrize("name", IN_INT8)
def test_a_network_that_ships_in_int8_compiles_for_tensorrt(name: str, tmp_path: Path) -> None:
    exact = load_model_file(name)
    whole = engine_of(exact, "fp32", "sm86", "", library(), tmp_path)
    built = engine_of(int8_of(exact, "s8"), "int8", "sm86", "", library(), tmp_path)
    assert len(built.engine) < 0.8 * len(whole.engine), "weights of 8 bits"


def test_an_engine_for_another_kind_of_gpu_is_another(tiny: ModelFile, tmp_path: Path) -> None:
    found = library()
    paths = {engine_of(tiny, "fp32", target, "", found, tmp_path).path for target in ("sm80", "sm89")}
    assert len(paths) == 2
    assert {"current", "sm80", "sm86", "sm89"} <= set(targets(found))


class Timings:
    """What NVIDIA's own `tensorrt` keeps of kernels; of a cache that it cannot read it makes an empty one."""

    def __init__(self, content: bytes) -> None:
        self.content = content if content.startswith(b"TIMES") else b"TIMES"

    def serialize(self) -> bytes:
        return self.content


def timing_library(cached: list[bytes], asked: list[object] | None = None) -> Library:
    """A `tensorrt` that compiles anything, and times one more kernel for each network. asked: how networks are made,
    and what is switched off."""
    told: list[object] = [] if asked is None else asked

    class Settings:
        def create_timing_cache(self, content: bytes) -> Timings:
            cached.append(content)
            return Timings(content)

        def set_timing_cache(self, timings: Timings, ignore_mismatch: bool) -> bool:
            self.timings = timings
            return not ignore_mismatch

        def add_optimization_profile(self, _: object) -> int:
            return 0

        def clear_flag(self, flag: object) -> None:
            told.append(flag)

    class Builder:
        def __init__(self, _: object) -> None: ...

        create_optimization_profile = lambda self: SimpleNamespace(set_shape=lambda *_: None)  # noqa: E731

        def create_network(self, flags: int) -> object:
            told.append(flags)
            return object()

        def create_builder_config(self) -> Settings:
            return Settings()

        def build_serialized_network(self, _: object, settings: Settings) -> bytes:
            settings.timings.content += b"+1"
            return b"ENGINE"

    class ILogger:
        def __init__(self) -> None: ...

    parser = lambda *_: SimpleNamespace(parse=lambda _: True)  # noqa: E731  # a class of one method
    flags = SimpleNamespace(BuilderFlag=SimpleNamespace(TF32="TF32"))
    flags.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    return Library(
        SimpleNamespace(Builder=Builder, OnnxParser=parser, ILogger=ILogger, **vars(flags)), "tensorrt", "10.9"
    )


def test_a_library_that_can_do_otherwise_is_told_to_keep_to_the_graphs_precision(
    tiny: ModelFile, tmp_path: Path
) -> None:
    """TensorRT 10 takes what is fastest, and TF32 for fp32, unless the network is strongly typed and TF32 is off."""
    asked: list[object] = []
    engine_of(tiny, "fp32", "current", "a GPU", timing_library([], asked), tmp_path)
    assert asked == [2, "TF32"]


def test_a_library_that_cannot_start_is_one_line(tiny: ModelFile, tmp_path: Path) -> None:
    """With a driver that is too old the constructors of `tensorrt` raise a TypeError that says nothing."""

    class Builder:
        def __init__(self, logger: Any) -> None:
            logger.log(1, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    class ILogger:
        Severity = SimpleNamespace(ERROR=1, INTERNAL_ERROR=0)

        def __init__(self) -> None: ...

    found = Library(SimpleNamespace(Builder=Builder, ILogger=ILogger), "tensorrt", "10.9")
    with pytest.raises(
        EngineError, match=r"^tensorrt 10\.9 cannot start \(CUDA initialization failure with error: 35\)"
    ):
        engine_of(tiny, "fp32", "current", "a GPU", found, tmp_path)


def test_kernels_that_tensorrt_has_timed_are_not_timed_again(
    tiny: ModelFile, touchy: ModelFile, tmp_path: Path
) -> None:
    cached: list[bytes] = []
    found = timing_library(cached)
    for file in (tiny, touchy, tiny):
        engine_of(file, "fp32", "current", "a GPU", found, tmp_path)
    assert cached == [b"", b"TIMES+1"], "the third was kept"
    (kept,) = tmp_path.glob("timings-*.cache")
    assert kept.read_bytes() == b"TIMES+1+1"
    kept.write_bytes(b"cut off")
    engine_of(tiny, "fp32", "current", "another GPU", found, tmp_path)
    engine_of(touchy, "fp16", "current", "a GPU", found, tmp_path)
    assert cached[2:] == [b"", b""]


def test_tensorrt_rtx_times_nothing_while_it_compiles(tiny: ModelFile, tmp_path: Path) -> None:
    engine_of(tiny, "fp32", "sm86", "", library(), tmp_path)
    assert not list(tmp_path.glob("timings-*"))


def test_a_graph_in_fp16_says_nearly_the_same(tiny: ModelFile) -> None:
    """Inputs and outputs stay float32. What an activation loses is what `auto` allows at most."""
    crop = {"crop": np.random.default_rng(0).normal(size=(2, 1, 112, 112)).astype(np.float32)}
    names = [spec.name for spec in tiny.manifest.outputs]
    answers = []
    for precision in ("fp32", "fp16"):
        network = in_precision(tiny.path.read_bytes(), precision)
        session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
        answers.append(dict(zip(names, session.run(names, crop), strict=True)))
    assert answers[1]["activation"].dtype == np.float32
    apart = np.abs(answers[1]["activation"] - answers[0]["activation"]).max()
    assert 0 < apart < 0.02


def test_what_cannot_be_compiled_is_one_line(tiny: ModelFile) -> None:
    found, network = library(), tiny.path.read_bytes()
    for wrong, target, says in (
        (b"no network", "sm86", "cannot read the network"),
        (network, "sm12", "compiles for current, .*not 'sm12'"),
    ):
        with pytest.raises(EngineError, match=says) as told:
            compiled(wrong, tiny.manifest.inputs, target, found)
        assert "\n" not in str(told.value)
    with pytest.raises(EngineError, match="tensorrt runs fp32, fp16, int8, not int3"):
        in_precision(network, "int3")
    with pytest.raises(EngineError, match="input 'odd' is open in dimension 1: RANGES says nothing of it"):
        shape_ranges(TensorSpec("odd", "float32", (1, -1)))


def test_a_library_that_is_not_there_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tensorrt_compile.LIBRARIES:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineError, match=r"TensorRT cannot load .*install it with: pip install tensorrt-rtx"):
        library()


def test_the_command_compiles_and_keeps(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "engines.build", *arguments, "--out", str(tmp_path)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)

    given = ("--model", "centerface", "--backend", "tensorrt", "--precision", "fp16", "--target", "sm86")
    for says in ("compiled (there was none yet): ", "kept already: "):
        done = run(*given)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(says)
    for wrong, says in (
        (("--model", "nosuch"), "unknown model 'nosuch'"),
        (("--model", "centerface", "--target", "sm12"), "not 'sm12'"),
        (("--model", "centerface", "--precision", "int3"), "int3"),
    ):
        done = run(*wrong, *(() if "--target" in wrong else ("--target", "sm86")))
        assert done.returncode == 2
        assert says in done.stderr and "Traceback" not in done.stderr
