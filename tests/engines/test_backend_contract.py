"""What every backend promises, on every backend and precision that this machine runs, for every kind of model."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import psutil
import pytest

from engines.backends import BACKENDS, has_driver
from engines.base import Array, Engine, EngineError, Tensors, lent
from engines.choose import TOLERANCE, load
from engines.concept import read
from engines.detect import detect
from engines.preprocess import Luma, to_tensor
from engines.spec import ModelFile, available, load_model_file
from engines.voice import HOP, RATE_HZ

FP32_APART = 1e-4
FP32_APART_HEARD = 1e-2  # decibels and semitones
# bf16 keeps 8 binary digits, so that values are off by a share of their typical size, and small ones by more.
BF16_SHARE, BF16_FLOOR = 0.03, 0.01

HAS_GPU = has_driver(BACKENDS["tensorrt"])
# What int8 is worth is looked at in tests/calibration/test_int8.py: few networks have such a file.
LEVELS = [
    pytest.param(
        f"{name}/{precision}",
        marks=[pytest.mark.gpu, pytest.mark.skipif(not HAS_GPU, reason="no NVIDIA driver")] if backend.driver else [],
    )
    for name, backend in BACKENDS.items()
    for precision in backend.precisions
    if precision != "int8"
]


# A model that hears is the concept network of another folder.
NETWORKS = [name for name in available() if load_model_file(name).manifest.hearing is None]


@pytest.fixture(scope="module", params=["tiny", *NETWORKS])
def model(request: pytest.FixtureRequest, tiny: ModelFile) -> ModelFile:
    return tiny if request.param == "tiny" else load_model_file(request.param)


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="no NVIDIA driver: the contract is held by the engines of the CPU alone")
def test_a_gpu_that_is_there_runs(tiny: ModelFile, astronaut: Luma) -> None:
    """The tests below skip an engine that does not load; where there is a GPU and nothing runs on it, that is a
    failure. TensorRT-RTX does not know every GPU."""
    inputs, reasons = picture(tiny, astronaut), []
    for name in ("tensorrt", "torch"):
        try:
            engine = load(name, tiny, "fp32", 1, inputs)
        except EngineError as error:
            reasons.append(str(error))
            continue
        assert_equal(engine.infer(inputs), engine.infer(inputs))
        if engine.device == "gpu":
            engine.close()
            return
        reasons.append(f"{engine.backend} ran on the CPU")
        engine.close()
    pytest.fail("; ".join(reasons))


def picture(model: ModelFile, luma: Luma, batch: int = 1) -> dict[str, Array]:
    """Inputs that show the astronaut; the pictures of a batch differ. To a voice network, a tone in noise, the longer
    the larger the batch."""
    shapes = {spec.name: spec.shape for spec in model.manifest.inputs}
    if "samples" in shapes:
        count = 2 * batch * HOP
        noise = np.random.default_rng(0).normal(0, 0.01, count)
        sound = 0.1 * np.sin(2 * np.pi * 200 * np.arange(count) / RATE_HZ) + noise
        return {"samples": sound[None].astype(np.float32), "memory": np.zeros(shapes["memory"], np.float32)}
    if model.manifest.crop is None:
        side = 128 + 64 * batch
        return {"luma": cv2.resize(luma, (side, 192)).astype(np.float32)[None, None]}
    size_px = model.manifest.crop.size_px
    face = luma[40:200, 150:310]
    crops = [cv2.resize(face[8 * i :, 4 * i :], (size_px, size_px)) for i in range(batch)]
    return {"crop": to_tensor(np.stack(crops), model.manifest.crop)}


def is_voice(model: ModelFile) -> bool:
    """Whether it hears."""
    return any(spec.name == "samples" for spec in model.manifest.inputs)


@pytest.fixture(scope="module", params=LEVELS)
def engine(request: pytest.FixtureRequest, model: ModelFile, astronaut: Luma) -> Iterator[Engine]:
    name, precision = request.param.split("/")
    if is_voice(model) and precision != "fp32":
        pytest.skip("sessions hear in fp32 alone")
    try:
        engine = load(name, model, precision, 1, picture(model, astronaut))
    except EngineError as error:
        pytest.skip(str(error))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def reference(model: ModelFile, astronaut: Luma) -> Iterator[Engine]:
    engine = load("onnxruntime", model, "fp32", 1, picture(model, astronaut))
    yield engine
    engine.close()


def rms(array: Array) -> float:
    return float(np.sqrt(np.mean(array.astype(np.float64) ** 2)))


def assert_equal(one: Tensors, other: Tensors) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_outputs_are_those_of_the_manifest(engine: Engine, model: ModelFile, astronaut: Luma, batch: int) -> None:
    inputs = picture(model, astronaut, batch)
    outputs = engine.infer(inputs)
    assert list(outputs) == [spec.name for spec in engine.manifest.outputs]
    for spec in engine.manifest.outputs:
        array = outputs[spec.name]
        assert array.dtype == np.dtype(spec.dtype)
        assert len(array.shape) == len(spec.shape)
        assert all(want in (-1, have) for want, have in zip(spec.shape, array.shape, strict=True)), array.shape
        assert len(array) == len(next(iter(inputs.values())))
        assert np.isfinite(array).all()


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_outputs_agree_with_onnxruntime(
    engine: Engine, reference: Engine, model: ModelFile, astronaut: Luma, batch: int
) -> None:
    inputs = picture(model, astronaut, batch)
    have, want = engine.infer(inputs), reference.infer(inputs)
    for name in want:
        apart = np.abs(have[name] - want[name])
        if engine.backend.endswith("/fp32"):
            assert apart.max() <= (FP32_APART_HEARD if is_voice(model) else FP32_APART), name
        else:
            assert rms(apart) <= BF16_SHARE * rms(want[name]) + BF16_FLOOR, name
            # What a session holds bf16 to; it runs the detector in fp32 alone, and looks for the face below.
            assert model.manifest.heads is None or apart.max() <= TOLERANCE.get(name, np.inf), name


def test_the_face_is_where_onnxruntime_finds_it(
    engine: Engine, reference: Engine, model: ModelFile, astronaut: Luma
) -> None:
    if model.manifest.name != "centerface":
        pytest.skip("no detector")
    (have,), (want,) = detect(engine, astronaut), detect(reference, astronaut)
    atol_px = 0.01 if engine.backend.endswith("/fp32") else 1.0
    np.testing.assert_allclose(have.points, want.points, atol=atol_px)
    np.testing.assert_allclose(have.box, want.box, atol=2 * atol_px)


def test_a_face_reads_the_same_alone_and_in_a_batch(engine: Engine, model: ModelFile, astronaut: Luma) -> None:
    if model.manifest.heads is None:
        pytest.skip("one picture, or one sound, at a time")
    inputs = picture(model, astronaut, 3)
    together = engine.infer(inputs)
    atol = 1e-5 if engine.backend.endswith("/fp32") else 2e-2
    for i in range(3):
        alone = engine.infer({name: array[i : i + 1] for name, array in inputs.items()})
        for name in together:
            np.testing.assert_allclose(together[name][i], alone[name][0], rtol=atol, atol=atol, err_msg=name)


def test_the_same_inputs_give_the_same_outputs(engine: Engine, model: ModelFile, astronaut: Luma) -> None:
    inputs = picture(model, astronaut)
    first = engine.infer(inputs)
    engine.infer(picture(model, astronaut, 2))
    assert_equal(first, engine.infer(inputs))


def test_what_is_lent_is_what_is_given(engine: Engine, model: ModelFile, astronaut: Luma) -> None:
    """Of the second of two calls: what was lent by the first is gone."""
    lent(engine, picture(model, cv2.flip(astronaut, 1)))
    found = {name: array.copy() for name, array in lent(engine, picture(model, astronaut)).items()}
    assert_equal(found, engine.infer(picture(model, astronaut)))


def test_outputs_belong_to_the_caller(engine: Engine, model: ModelFile, astronaut: Luma) -> None:
    inputs = picture(model, astronaut)
    outputs = engine.infer(inputs)
    kept = {name: array.copy() for name, array in outputs.items()}
    other = engine.infer({name: array[..., ::-1] * np.float32(0.5) for name, array in inputs.items()})
    assert any((other[name] != kept[name]).any() for name in kept)
    for array in inputs.values():
        array[...] = 0.0
    assert_equal(outputs, kept)
    for array in outputs.values():
        array[...] = 0.0
    assert_equal(engine.infer(picture(model, astronaut)), kept)


def test_memory_that_is_given_again_is_read_again(engine: Engine, model: ModelFile, astronaut: Luma) -> None:
    """A session writes its crops to the same array; other arrays may come in between."""
    one = picture(model, astronaut)
    two = {name: array[..., ::-1] * np.float32(0.5) for name, array in one.items()}
    wanted = {name: engine.infer(each) for name, each in (("one", one), ("two", two))}
    shared = {name: np.empty_like(array) for name, array in one.items()}
    for name, each in (("one", one), ("two", two), ("one", one)):
        for key, array in shared.items():
            array[...] = each[key]
        assert_equal(engine.infer(shared), wanted[name])
        engine.infer(picture(model, astronaut, 2))
        assert_equal(engine.infer(shared), wanted[name])
        assert_equal(engine.infer(two), wanted["two"])


@pytest.mark.parametrize("batch", [1, 3, 4])
def test_any_memory_layout_is_read_rightly(engine: Engine, model: ModelFile, astronaut: Luma, batch: int) -> None:
    inputs = picture(model, astronaut, batch)
    want = engine.infer(inputs)
    transposed = {name: np.asfortranarray(array) for name, array in inputs.items()}
    frozen = {name: array.copy() for name, array in inputs.items()}
    for array in frozen.values():
        array.setflags(write=False)
    assert_equal(engine.infer(transposed), want)
    assert_equal(engine.infer(frozen), want)


def test_wrong_inputs_are_refused(engine: Engine, model: ModelFile, astronaut: Luma) -> None:
    inputs = picture(model, astronaut)
    name, array = next(iter(inputs.items()))
    fixed = 1 if model.manifest.inputs[0].shape[1] != -1 else 0
    wrong: list[dict[str, Array]] = [
        {},
        {"other": array},
        inputs | {"other": array},
        inputs | {name: array.astype(np.float64)},
        inputs | {name: array[0]},
        inputs | {name: np.concatenate([array, array], axis=fixed)},
        inputs | {name: array[..., :0]},
    ]
    for _ in range(2):  # before and after right ones
        for each in wrong:
            with pytest.raises(EngineError, match=name):
                engine.infer(each)
        assert engine.infer(inputs)


def test_it_says_what_it_is(engine: Engine, model: ModelFile) -> None:
    assert engine.backend in {each.values[0] for each in LEVELS}
    assert engine.device in ("cpu", "gpu")
    assert engine.manifest is model.manifest


def test_the_readout_is_the_heads_own_output(engine: Engine, model: ModelFile, astronaut: Luma) -> None:
    heads = model.manifest.heads
    if heads is None:
        pytest.skip("no concept model")
    outputs = engine.infer(picture(model, astronaut, 2))
    atol = FP32_APART if engine.backend.endswith("/fp32") else 0.1
    for readout, head in zip(read(outputs, heads), outputs["heads"], strict=True):
        np.testing.assert_allclose(np.array(heads.base) + readout.contributions.sum(axis=0), head, atol=atol)


def test_memory_stays_flat_when_shapes_change(engine: Engine, model: ModelFile, astronaut: Luma) -> None:
    if "luma" in picture(model, astronaut):
        pytest.skip("the detector runs at one size")
    pictures = [picture(model, astronaut, batch) for batch in (1, 2, 3, 4, 5, 6, 7, 8)]
    process = psutil.Process()

    def run(rounds: int) -> int:
        for _ in range(rounds):
            for inputs in pictures:
                engine.infer(inputs)
        return int(process.memory_info().rss)

    before = run(4)
    assert run(12) - before < 4 * 2**20


@pytest.mark.parametrize("level", LEVELS)
def test_a_closed_engine_refuses_to_run(level: str, tiny: ModelFile, astronaut: Luma) -> None:
    name, precision = level.split("/")
    inputs = picture(tiny, astronaut)
    try:
        engine = load(name, tiny, precision, 1, inputs)
    except EngineError as error:
        pytest.skip(str(error))
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(inputs)
