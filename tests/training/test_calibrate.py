"""Calibration from embeddings to manifest: nothing of a person judges that person, and what is written holds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("sklearn")
pytest.importorskip("scipy")

import cv2
import torch
import typer
from typer.testing import CliRunner

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.concept import half_width, read
from engines.spec import ConceptSpec, HeadSpec, IntervalSpec, Manifest, load_model_file
from tests.training.material import SIDE_PX, learnable, write_experiment
from training import calibrate
from training import export as exporter
from training.agcm.model import Agcm, AgcmConfig
from training.calibrate import interval_report, interval_spec, nested, target_report
from training.calibrated import kept
from training.calibration_report import CalibrationReport
from training.concepts import EXPRESSIONS, NAMES
from training.conformal import Interval, Spread
from training.data.pictures import DataError
from training.data.samples import Samples, save
from training.engagement import Pictures, among, choose, embed, fit, put
from training.experiment import load
from training.synthetic.ict import FaceModel
from training.temperature import probabilities

CONCEPTS, LENGTH = 3, 4


def people(seed: int, uneven: float, count: int = 11, each: int = 60) -> tuple[Pictures, np.ndarray]:
    """Labels 0, .5 and 1 that a hidden direction decides; where the first concept is active the labels are noisy."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count * each, CONCEPTS * LENGTH))
    activation = rng.integers(0, 2, (count * each, CONCEPTS)).astype(np.float64)
    value = x[:, :4].mean(1) * 2 + (0.25 + uneven * activation[:, 0]) * rng.normal(size=len(x))
    score = np.digitize(value, (-0.6, 0.6)) / 2
    return Pictures(x, x, score, np.repeat(np.arange(count), each)), activation


def test_a_person_s_own_labels_never_make_their_interval() -> None:
    """Turned labels of one person change everybody else's half-widths and answers, never that person's."""
    pictures, activation = people(0, 0.5, each=10)
    own = pictures.subjects == 4
    turned = replace(pictures, score=np.where(own, 1 - pictures.score, pictures.score))
    before, after = nested(pictures, activation, 0.9), nested(turned, activation, 0.9)
    mine = before.answers.subjects == 4
    for method, width in before.half_width.items():
        np.testing.assert_allclose(after.half_width[method][mine], width[mine], rtol=1e-9)
        assert (after.half_width[method][~mine] != width[~mine]).any()
    np.testing.assert_allclose(after.score[mine], before.score[mine], rtol=1e-9)


def test_nested_coverage_is_nominal_and_even_noise_takes_the_constant_interval() -> None:
    report, interval = interval_report(nested(*people(1, 0.0), 0.9), "drawn", 0.9)
    constant, local, guaranteed = report.methods
    assert constant.people_mean == pytest.approx(0.9, abs=0.03)
    assert local.people_mean == pytest.approx(0.9, abs=0.04)
    assert guaranteed.people_mean >= constant.people_mean
    assert report.chosen == "constant"
    assert interval.spread is None
    assert interval.quantile == pytest.approx(constant.half_width, rel=0.05)
    assert (report.pictures, report.people) == (660, 11)
    assert set(constant.by_label) == {"disengaged", "engaged", "very engaged"}


def test_noise_that_a_concept_tells_of_takes_the_local_interval() -> None:
    found = nested(*people(2, 3.0), 0.9)
    report, interval = interval_report(found, "drawn", 0.9)
    constant, local, _ = report.methods
    assert report.chosen == "local"
    assert local.half_width_at_rate is not None and constant.half_width_at_rate is not None
    assert local.half_width_at_rate < 0.98 * constant.half_width_at_rate
    assert interval.spread is not None
    assert interval.spread.activation[0] > 5 * abs(interval.spread.activation[1:]).max()


def test_the_test_of_an_interval_needs_one_person_more_than_the_interval() -> None:
    with pytest.raises(DataError, match="needs pictures of 11 people or more, not 10"):
        nested(*people(0, 0.0, count=10, each=10), 0.9)


def test_the_manifest_s_interval_is_the_fitted_one() -> None:
    """Shares in training and contributions live differ by their mean; the half-width is the same."""
    rng = np.random.default_rng(0)
    mean, bias = rng.normal(size=(CONCEPTS, 3)), rng.normal(size=3)
    heads = HeadSpec(("a", "b"), tuple((bias + mean.sum(0)).tolist()), tuple(map(tuple, mean.tolist())), ())
    maps = np.full((20, CONCEPTS, 2, 2), 0.25)
    active, inactive = rng.normal(size=(2, 20, CONCEPTS, 3))
    tensors = {"activation": rng.uniform(size=(20, CONCEPTS)), "maps": maps, "active": active, "inactive": inactive}
    said = read({name: value.astype(np.float32) for name, value in tensors.items()}, heads)
    spread = Spread(0.3, rng.normal(size=CONCEPTS), rng.normal(size=CONCEPTS), 0.05)
    for interval in (Interval(1.7, spread), Interval(0.42, None)):
        live = msgspec.structs.replace(heads, interval=interval_spec(interval, 0.9, heads))
        share = np.stack([each.contributions[:, 0] for each in said]) + mean[:, 0]
        activation = np.stack([each.activation for each in said])
        answers = calibrate.Answers(np.zeros(20), activation, share, np.zeros(20, np.int64))
        np.testing.assert_allclose([half_width(each, live) for each in said], interval(answers), rtol=1e-6)


@pytest.mark.parametrize("target", ["votes", "majority"])
def test_the_temperature_of_votes_is_found_and_the_error_after_it_is_cross_fitted(target: str) -> None:
    logits = np.random.default_rng(0).normal(scale=2.0, size=(6000, 8))
    votes = probabilities(logits, 2.5)
    report = target_report(logits, votes, target)
    if target == "votes":
        assert report.temperature == pytest.approx(2.5, rel=1e-3)
        assert report.ece_mass_after < 1e-3 < 0.2 < report.ece_mass_before
    else:
        assert report.temperature < 0.2, "the majority is certain here"
        assert report.ece_width_after < 0.05 < 0.2 < report.ece_width_before
    assert report.cross_entropy_after < report.cross_entropy_before


def test_a_calibration_stays_with_its_network_and_with_no_other(tmp_path: Path) -> None:
    content = b"a network"
    (tmp_path / "model.onnx").write_bytes(content)
    heads = HeadSpec(("a",), (0.5, 0.0), ((0.1, 0.2),), ())
    concepts = (ConceptSpec("AU1", "au", ""),)
    fresh = Manifest("m", "model.onnx", hashlib.sha256(content).hexdigest(), (), (), concepts=concepts, heads=heads)
    assert kept(fresh, tmp_path / "nothing") == fresh
    found = msgspec.structs.replace(heads, temperature=0.7, calibrated_to="majority", interval=IntervalSpec(0.9, 0.4))
    calibrated = msgspec.structs.replace(fresh, heads=found)
    (tmp_path / "manifest.json").write_bytes(msgspec.json.encode(calibrated))
    assert kept(fresh, tmp_path) == calibrated
    other = msgspec.structs.replace(fresh, sha256="0" * 64)
    assert kept(other, tmp_path) == other
    moved = msgspec.structs.replace(fresh, heads=msgspec.structs.replace(heads, mean=((0.3, 0.2),)))
    assert kept(moved, tmp_path) == moved


@dataclass(frozen=True, slots=True)
class Exported:
    """An exported model with an engagement head, what it came from, and the command that calibrates it."""

    folder: Path
    arguments: tuple[str, ...]


def shaded(seed: int) -> Samples:
    """Pictures that differ in light and shade, of twelve people; how bright they are above decides the label."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (48, 6, 6)).astype(np.uint8)
    crops = np.stack([cv2.resize(each, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC) for each in coarse])
    score = np.digitize(coarse[:, :3].mean((1, 2)), (115, 140)) / 2
    return replace(learnable(48), crops=crops, score=score.astype(np.float32), subjects=np.arange(48) % 12)


@pytest.fixture(scope="module")
def exported(face: FaceModel, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Random weights with the statistics of some batches; the head as training.engagement fits it."""
    folder = tmp_path_factory.mktemp("calibrate")
    path = write_experiment(folder, face)
    experiment, samples = load(path), shaded(0)
    save(folder / "engagement.npz", samples)
    torch.manual_seed(0)
    model = Agcm(AgcmConfig(len(NAMES), 1 + len(EXPRESSIONS), experiment.embedding)).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # plain averages: a network that is not normalised answers with its rounding errors
    with torch.no_grad():
        for start in range(0, 48, 8):
            model(torch.from_numpy(exporter.tensors(samples.take(np.arange(start, start + 8)))))
    pictures = among(embed(model, samples), model, samples)
    put(model, fit(pictures, choose(pictures)[0]))
    weights, out = folder / "weights.pt", folder / "models" / "tiny"
    torch.save(model.state_dict(), weights)
    out.mkdir(parents=True)
    exporter.to_onnx(model, out / "model.onnx")
    against, rated = exporter.reference(model, [samples]), [(0.5, "render")] * len(NAMES)
    manifest = exporter.manifest_for(out / "model.onnx", "tiny", model, against, rated, (0.3, 0.7))
    (out / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    data = ("--engagement", str(folder / "engagement.npz"), "--expressions", str(folder / "valid.npz"))
    data += ("--faces", str(folder / "engagement.npz"))
    return Exported(folder, (str(path), "--weights", str(weights), "--model", str(out), *data))


def run_command(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(calibrate.main)
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.output


def test_the_command_completes_the_manifest_and_leaves_the_rest(exported: Exported) -> None:
    folder = exported.folder
    model, crops = folder / "models" / "tiny", exporter.tensors(learnable(5, seed=8))
    before = load_model_file("tiny", model.parent)
    engine = OnnxRuntimeEngine(before)
    tensors = engine.infer({"crop": crops})
    assert before.manifest.heads is not None
    assert before.manifest.heads.interval is None
    code, text = run_command(*exported.arguments, "--json", str(folder / "r.json"), "--plot", str(folder / "r.svg"))
    assert code == 0, text
    heads = load_model_file("tiny", model.parent).manifest.heads
    assert heads is not None and heads.interval is not None
    report = msgspec.json.decode((folder / "r.json").read_bytes(), type=CalibrationReport)
    assert (heads.interval.coverage, heads.interval.quantile) == (0.9, report.interval.quantile)
    assert heads.calibrated_to == report.calibrated_to == "votes"
    assert heads.temperature == next(each.temperature for each in report.expressions if each.target == "votes")
    assert [each.method for each in report.interval.methods] == ["constant", "local", "guaranteed"]
    assert (report.interval.people, report.interval.pictures) == (12, 48)
    assert (folder / "r.svg").read_text().count("<svg") == 1
    assert sorted(path.name for path in model.iterdir()) == ["manifest.json", "model.onnx"]
    for old, new in zip(read(tensors, before.manifest.heads), read(tensors, heads), strict=True):
        assert new.score == old.score
        np.testing.assert_array_equal(new.contributions, old.contributions)
        width = half_width(new, heads)
        assert width is not None and width > 0
    assert len(EXPRESSIONS) == len(new.expressions)


def test_weights_of_another_head_are_refused_and_nothing_is_written(exported: Exported) -> None:
    manifest = exported.folder / "models" / "tiny" / "manifest.json"
    content = manifest.read_bytes()
    labels = exported.folder / "other.npz"
    samples = shaded(0)
    save(labels, replace(samples, score=np.float32(1) - samples.score))
    code, text = run_command(*exported.arguments, "--engagement", str(labels))
    assert code == 2
    assert "error: tiny was not exported from these weights with the head of training.engagement" in text
    assert manifest.read_bytes() == content


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--weights", "nowhere.pt", "weights not found: nowhere.pt"),
        ("--model", "models/nobody", "unknown model 'nobody'"),
        ("--engagement", "nowhere.npz", "prepared crops not found: nowhere.npz"),
        ("--expressions", "nowhere.npz", "prepared crops not found: nowhere.npz"),
        ("--faces", "nowhere.npz", "prepared crops not found: nowhere.npz"),
    ],
)
def test_what_is_missing_is_named(exported: Exported, option: str, value: str, words: str) -> None:
    code, text = run_command(*exported.arguments, option, value)
    assert code == 2
    assert words in text
    assert "Traceback" not in text
