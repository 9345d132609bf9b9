"""Every system of the study: learns what can be learnt, ships as it was trained, and adds up where it says it does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("numba")
pytest.importorskip("sklearn")

import msgspec
import torch
import typer
from torch import Tensor, nn

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.concept import intervene, read
from engines.spec import Manifest, ManifestError, load_model_file
from tests.training.material import learnable, write_experiment, write_face
from training import export as exporter
from training import train as trainer
from training.agcm.backbones import BACKBONES
from training.agcm.system import LinearConcepts, System, mixed, needed
from training.agcm.vit import LumaVit, VitShape
from training.concepts import INDEX, NAMES
from training.data.samples import save
from training.experiment import Experiment, load
from training.run import load_weights
from training.synthetic.ict import FaceModel
from training.systems import cosine
from training.systems.table import build

ONE = "[{epochs = 16, side_px = 48, batch = 8}]"
CONCEPTS = '{epochs = 8, side_px = 48, batch = 8, train = "concepts"}'
TWO = f'[{CONCEPTS}, {{epochs = 8, side_px = 48, batch = 8, train = "task"}}]'
VARIANTS: dict[str, dict[str, str]] = {
    "agcm": {"concept": "4.0"},
    "agcm by step": {"phases": TWO},
    "agcm viewed": {"token_order": '"viewed"', "concept": "4.0"},
    "agcm vit": {"backbone": '{kind = "tiny-vit"}', "learning_rate": "2e-3"},
    "cem": {"system": '"cem"'},
    "cbm joint": {"system": '"cbm"'},
    "cbm sequential": {"system": '"cbm"', "learns": '"sequential"', "phases": TWO, "learning_rate": "2e-2"},
    "cbm independent": {"system": '"cbm"', "learns": '"independent"'},
    "cbm logit": {"system": '"cbm"', "bottleneck": '"logit"'},
    "probcbm": {"system": '"probcbm"'},
    "multitask": {"system": '"multitask"'},
    "blackbox": {"system": '"blackbox"'},
    "tscam": {"system": '"tscam"', "backbone": '{kind = "tiny-vit"}', "learning_rate": "2e-3"},
    "aucam": {"system": '"aucam"', "attention": "1.0"},
}
LINEAR = [name for name in VARIANTS if name.startswith(("agcm", "cem", "cbm")) and name != "cbm logit"]


class TinyCnn(nn.Module):
    """A backbone of two convolutions."""

    def __init__(self, deep_channels: int) -> None:
        super().__init__()
        self.channels = 16
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 8, 4, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 8, 4, 2), nn.BatchNorm2d(16),
            nn.ReLU(),
        )  # fmt: skip

    def forward(self, luma: Tensor) -> Tensor:
        out: Tensor = self.layers(luma)
        return out


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained system, the figures of its last epoch, and where it was exported to."""

    experiment: Experiment
    model: System
    figures: trainer.Figures
    out: Path
    difference: float

    @property
    def manifest(self) -> Manifest:
        return load_model_file(self.out.name, self.out.parent).manifest

    def engine(self) -> OnnxRuntimeEngine:
        return OnnxRuntimeEngine(load_model_file(self.out.name, self.out.parent))


@pytest.fixture(scope="module")
def tiny_backbones() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "tiny", TinyCnn)  # type: ignore[arg-type]
        patch.setitem(BACKBONES, "tiny-vit", lambda deep: LumaVit(VitShape(2, 24, 2, 48, 0.0)))
        yield


@pytest.fixture(scope="module")
def trained(
    tiny_backbones: None, face: FaceModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Trained]]:
    """Filled by `made`, so that each system is trained once."""
    yield {}


@pytest.fixture
def made(trained: dict[str, Trained], name: str, face: FaceModel, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The named variant, trained by the command's function and exported."""
    if name not in trained:
        folder = tmp_path_factory.mktemp("system")
        keys = {"backbone": '{kind = "tiny"}', "crop_px": "48", "learning_rate": "1e-2", "phases": ONE} | VARIANTS[name]
        experiment = load(write_experiment(folder, face, count=32, **keys))
        figures = trainer.train(experiment, folder / "run")
        weights = folder / "run" / "weights.pt"
        difference = exporter.export(experiment, weights, folder / "models" / "tiny", (0.3, 0.6))
        model = build(experiment)
        model.load_state_dict(load_weights(weights))
        trained[name] = Trained(experiment, model.eval(), figures, folder / "models" / "tiny", difference)
    return trained[name]


@pytest.mark.parametrize("name", VARIANTS)
def test_it_learns_and_ships_as_it_was_trained(made: Trained) -> None:
    assert made.figures.accuracy >= 0.8, "upper and lower half, where chance is .5"
    if "activation" in made.model.names:
        assert max(made.figures.concept_r[INDEX[au]] for au in ("AU12", "AU4")) > 0.6
    assert made.difference <= 1e-4
    crops = exporter.tensors(learnable(5, seed=9), 48)
    with torch.no_grad():
        expected = made.model.published(made.model(torch.from_numpy(crops)))
    got = made.engine().infer({"crop": crops})
    assert [spec.name for spec in made.manifest.outputs] == list(made.model.names)
    for key, value in zip(made.model.names, expected, strict=True):
        np.testing.assert_allclose(got[key], value, atol=1e-4)
    assert {spec.name: (5, *spec.shape[1:]) for spec in made.manifest.outputs} == {k: v.shape for k, v in got.items()}
    assert made.manifest.crop is not None
    assert made.manifest.crop.size_px == 48


@pytest.mark.parametrize("name", LINEAR)
def test_contributions_add_up_and_interventions_are_recomputation(made: Trained) -> None:
    model, heads = made.model, made.manifest.heads
    assert heads is not None
    assert isinstance(model, LinearConcepts)
    crops = exporter.tensors(learnable(6, seed=4), 48)
    tensors = made.engine().infer({"crop": crops})
    readouts = read(tensors, heads)
    with torch.no_grad():
        out = model(torch.from_numpy(crops))
        p = needed(out.logits).sigmoid()
        p[:, INDEX["AU12"]], p[:, INDEX["AU4"]] = 1.0, 0.25
        recomputed = model.read(mixed(p, needed(out.active), needed(out.inactive))).numpy()
    for row, readout in enumerate(readouts):
        assert readout.score == pytest.approx(float(tensors["heads"][row, 0]), abs=1e-4)
        changed = intervene(readout, heads, {INDEX["AU12"]: 1.0, INDEX["AU4"]: 0.25})
        assert changed.score == pytest.approx(float(recomputed[row, 0]), abs=1e-4)
        logits = np.asarray(heads.base[1:]) + changed.contributions[:, 1:].sum(0)
        np.testing.assert_allclose(logits, recomputed[row, 1:], atol=1e-4)
    mean = np.mean([each.contributions for each in readouts], axis=0)
    assert np.abs(mean).max() > 1e-4, "other pictures than those of the reference"


@pytest.mark.parametrize("name", ["cbm logit"])
def test_shares_of_logits_add_up_too(made: Trained) -> None:
    heads = made.manifest.heads
    assert heads is not None
    tensors = made.engine().infer({"crop": exporter.tensors(learnable(6, seed=4), 48)})
    total = np.asarray(heads.base) + (tensors["shares"] - np.asarray(heads.mean)).sum(1)
    np.testing.assert_allclose(total, tensors["heads"], atol=1e-4)


@pytest.mark.parametrize("name", ["probcbm", "multitask", "blackbox", "tscam", "aucam"])
def test_a_system_that_is_no_sum_claims_no_shares(made: Trained) -> None:
    heads = made.manifest.heads
    assert heads is not None
    assert heads.mean == made.manifest.concepts == ()
    outputs = made.engine().infer({"crop": exporter.tensors(learnable(32), 48)})["heads"]
    np.testing.assert_allclose(heads.base, outputs.mean(0), atol=1e-4)


@pytest.mark.parametrize("name", ["tscam", "aucam"])
def test_maps_are_measured_by_a_command(
    made: Trained, face: FaceModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = learnable(8, seed=3)
    found = np.ones(8, bool)
    found[1] = False  # one of the four happy ones; neutral has no AU map
    save(tmp_path / "crops.npz", replace(pictures, found=found))
    write_face(tmp_path / "face.npz", face)
    cosine.main(tmp_path / "crops.npz", str(made.out), tmp_path / "face.npz", tmp_path / "figures.json")
    figures = msgspec.json.decode((tmp_path / "figures.json").read_bytes(), type=cosine.Cosines)
    assert figures.pictures == 3
    assert 0.0 < figures.cam_cos <= 1.0
    assert f"ATT-COS {figures.att_cos:.3f}, 3 pictures" in capsys.readouterr().out
    save(tmp_path / "crops.npz", replace(pictures, found=np.zeros(8, bool)))
    with pytest.raises(typer.Exit) as stopped:
        cosine.main(tmp_path / "crops.npz", str(made.out), tmp_path / "face.npz")
    assert stopped.value.exit_code == 2
    assert "no picture has both votes on expressions and a found face" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["blackbox"])
def test_a_model_without_class_maps_has_no_cosines(made: Trained) -> None:
    with pytest.raises(ManifestError, match="has no class maps"):
        cosine.opened(str(made.out))


@pytest.mark.parametrize("name", ["agcm by step", "cbm sequential"])
def test_by_step_the_task_never_moves_a_concept(made: Trained, face: FaceModel, tmp_path: Path) -> None:
    """The concepts of the whole run are, to the bit, those of a run that ends where the task begins."""
    first = VARIANTS[made.experiment.system + (" by step" if made.experiment.system == "agcm" else " sequential")]
    assert first["phases"] == TWO
    folder = made.out.parents[1]
    keys = (
        {"backbone": '{kind = "tiny"}', "crop_px": "48", "learning_rate": "1e-2"} | first | {"phases": f"[{CONCEPTS}]"}
    )
    trainer.train(load(write_experiment(tmp_path, face, count=32, **keys)), tmp_path / "run")
    alone, whole = load_weights(tmp_path / "run" / "weights.pt"), load_weights(folder / "run" / "weights.pt")
    for name, value in alone.items():
        if name in made.model.head:
            assert not torch.equal(value, whole[name]), name
        elif not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(whole[name], value, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("learns", ["joint", "sequential", "independent"])
@pytest.mark.parametrize("bottleneck", ["sigmoid", "logit"])
def test_what_a_cbm_lets_the_task_reach(
    tiny_backbones: None, face: FaceModel, tmp_path: Path, learns: str, bottleneck: str
) -> None:
    keys = {"system": '"cbm"', "learns": f'"{learns}"', "bottleneck": f'"{bottleneck}"', "backbone": '{kind = "tiny"}'}
    model = build(load(write_experiment(tmp_path, face, phases=TWO, **keys))).train()
    labels = torch.rand(4, len(NAMES)).round()
    luma, known = torch.randn(4, 1, 48, 48), torch.ones(4, len(NAMES), dtype=torch.bool)
    out = model(luma, labels, known)
    out.heads.sum().backward()
    reached = any(p.grad is not None and p.grad.any() for p in model.concept.parameters())
    assert reached == (learns == "joint")
    if learns == "independent" and bottleneck == "sigmoid":
        torch.testing.assert_close(out.heads, labels @ model.weight[:, 0] + model.bias)


def test_probcbm_is_less_certain_where_its_distribution_is_wider(
    tiny_backbones: None, face: FaceModel, tmp_path: Path
) -> None:
    keys = {"system": '"probcbm"', "backbone": '{kind = "tiny"}'}
    model = build(load(write_experiment(tmp_path, face, **keys))).eval()
    luma = torch.randn(3, 1, 48, 48)
    with torch.no_grad():
        narrow = model(luma)
        assert torch.equal(narrow.heads, model(luma).heads), "one answer for a picture"
        model.log_sigma_bias += 1.0
        wide = model(luma)
    assert (wide.uncertainty > narrow.uncertainty).all()
    sums = narrow.heads[:, 1:].exp().sum(1)
    torch.testing.assert_close(sums, torch.ones(3), msg="the heads are the logarithms of a mean of probabilities")
    far = (narrow.logits.sigmoid() - 0.5).abs().mean()
    assert (wide.logits.sigmoid() - 0.5).abs().mean() < far


def test_ts_cam_shows_its_map_where_the_face_was_attended_to(
    tiny_backbones: None, face: FaceModel, tmp_path: Path
) -> None:
    keys = {"system": '"tscam"', "backbone": '{kind = "tiny-vit"}'}
    model = build(load(write_experiment(tmp_path, face, **keys))).eval()
    luma = torch.randn(2, 1, 48, 48)
    with torch.no_grad():
        out = model(luma)
        features, attention = model.backbone.attended(luma)
        semantic = model.task(features)
    assert attention.shape == (2, 3, 3)
    assert (attention > 0).all()
    assert (attention.flatten(1).sum(1) < 2.0).all(), "two blocks, each of which sums to 1 with the CLS token"
    torch.testing.assert_close(features, model.backbone(luma), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(out.class_maps, semantic * attention[:, None])
    torch.testing.assert_close(out.heads, semantic.mean((2, 3)))
    plain = build(load(write_experiment(tmp_path, face, system='"tscam"', backbone='{kind = "tiny"}'))).eval()
    with torch.no_grad():
        assert (plain(luma).attention == 1).all(), "without a CLS token it is a class activation map"
