"""The arrays say what the live readout says of each face, and the sum is checked against the network itself."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.backends import BACKENDS
from engines.concept import intervene, read
from engines.spec import ModelFile
from tests.engines.conftest import build_tiny
from tests.training.explain.toys import toy
from training.explain import sums
from training.explain.answers import ask, by_size, contributions, outputs, shuffled
from training.explain.sums import LIMIT, SumFigures


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    return build_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (20, 112, 112), dtype=np.uint8)


def test_outputs_and_contributions_are_those_of_the_live_readout() -> None:
    answers, heads = toy(12)
    readouts = read(answers.tensors(), heads)
    np.testing.assert_allclose(outputs(answers, heads)[:, 0], [r.score for r in readouts], atol=1e-12)
    np.testing.assert_allclose(contributions(answers, heads), [r.contributions for r in readouts], atol=1e-12)
    np.testing.assert_allclose(contributions(answers, heads).mean(axis=0), 0.0, atol=1e-12)


def test_other_activations_give_what_the_live_intervention_gives() -> None:
    answers, heads = toy(5)
    other = np.random.default_rng(1).random(answers.activation.shape)
    live = [intervene(r, heads, dict(enumerate(p.tolist()))) for r, p in
            zip(read(answers.tensors(), heads), other, strict=True)]  # fmt: skip
    np.testing.assert_allclose(outputs(answers, heads, other)[:, 0], [r.score for r in live], atol=1e-12)


def test_an_engine_is_asked_in_batches_and_adds_up(tiny: ModelFile, crops: np.ndarray) -> None:
    engine = OnnxRuntimeEngine(tiny)
    answers = ask(engine, crops)
    assert answers.maps.shape == (20, 4, 7, 7)
    one = ask(engine, crops[17:18])
    np.testing.assert_allclose(answers.activation[17:18], one.activation, atol=1e-6)
    found = sums.measure(engine, answers)
    assert (found.backend, found.pictures) == ("onnxruntime/fp32", 20)
    assert found.published_max < 1e-9
    assert 0 < found.network_mean <= found.network_max < LIMIT


def test_a_manifest_of_another_network_is_caught_by_the_networks_own_sum(tiny: ModelFile, crops: np.ndarray) -> None:
    heads = tiny.manifest.heads
    assert heads is not None
    shifted = msgspec.structs.replace(heads, base=(heads.base[0] + 0.01, *heads.base[1:]))
    other = ModelFile(tiny.path, msgspec.structs.replace(tiny.manifest, heads=shifted))
    engine = OnnxRuntimeEngine(other)
    found = sums.measure(engine, ask(engine, crops))
    assert found.network_max == pytest.approx(0.01, abs=1e-4)
    assert "rounds further off on onnxruntime/fp32" in sums.said([found])


def test_every_backend_is_named_whether_it_runs_or_not(tiny: ModelFile, crops: np.ndarray) -> None:
    engine = OnnxRuntimeEngine(tiny)
    found = sums.measure_all(tiny, crops, (engine, ask(engine, crops)), threads=1)
    levels = {f"{name}/{level}" for name, backend in BACKENDS.items() for level in backend.precisions}
    assert {each.backend for each in found} == levels
    assert not next(each for each in found if each.backend == "openvino/fp32").absent
    assert all(each.absent or each.pictures == 20 for each in found)
    fp32 = [each for each in found if each.backend.endswith("fp32")]
    assert all(each.network_max < LIMIT for each in fp32)


def test_the_sentence_admits_a_sum_that_does_not_hold() -> None:
    good = SumFigures("a", 10, 1e-9, 1e-9, 1e-6, 1e-6)
    assert "holds on a: " in sums.said([good])
    assert "does NOT hold" in sums.said([good, SumFigures("b", 10, 1e-3, 1e-4, 1e-6, 1e-6)])


def test_orders() -> None:
    assert by_size(np.array([[0.1, -3.0, 2.0, 2.0]])).tolist() == [[1, 2, 3, 0]]
    drawn = shuffled(50, 6, np.random.default_rng(0))
    assert (np.sort(drawn, axis=1) == np.arange(6)).all()
    assert len(np.unique(drawn, axis=0)) > 40
