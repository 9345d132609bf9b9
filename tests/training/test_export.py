"""The exported file is the trained network, says what it is, and is not written when it is not."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("numba")
pytest.importorskip("sklearn")

import onnx
import torch
import typer

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.concept import read
from engines.spec import Manifest, load_model_file
from tests.training.material import learnable, write_experiment
from training import export as exporter
from training.agcm.model import Agcm
from training.concepts import EXPRESSIONS, INDEX, NAMES
from training.data.samples import join, save
from training.experiment import Experiment, load
from training.run import Run
from training.synthetic.ict import FaceModel
from training.train import predict

CUTS = (0.3, 0.6)


@dataclass(frozen=True, slots=True)
class Exported:
    """A trained model (in so far as random weights are one), its files, and the experiment they belong to."""

    model: Agcm
    experiment: Experiment
    weights: Path
    out: Path
    difference: float

    @property
    def manifest(self) -> Manifest:
        return load_model_file(self.out.name, self.out.parent).manifest


@pytest.fixture(scope="module")
def exported(face: FaceModel, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("export")
    experiment = load(write_experiment(folder, face))
    run = Run(experiment, folder / "run")
    model = run.model.train()
    with torch.no_grad():  # batch statistics other than those of a fresh network
        torch.manual_seed(0)
        torch.nn.init.normal_(model.bias)
        for _ in range(20):
            model(torch.randn(4, 1, 112, 112))
    run.folder.mkdir()
    run.averaged.state = model.state_dict()
    run.save()
    out = folder / "models" / "tiny"
    difference = exporter.export(experiment, folder / "run" / "weights.pt", out, CUTS)
    return Exported(model.eval(), experiment, folder / "run" / "weights.pt", out, difference)


def test_the_file_is_the_trained_network(exported: Exported) -> None:
    """In batches of any size, on pictures that export did not check."""
    assert exported.difference <= exporter.TOLERANCE
    assert sorted(path.name for path in exported.out.iterdir()) == ["manifest.json", "model.onnx"]
    assert [path.name for path in exported.out.parent.iterdir()] == ["tiny"], "nothing is left behind"
    engine = OnnxRuntimeEngine(load_model_file("tiny", exported.out.parent))
    crops = exporter.tensors(learnable(7, seed=9))
    with torch.no_grad():
        out = exported.model(torch.from_numpy(crops))
    for rows in (slice(0, 1), slice(0, 2), slice(0, 7)):
        got = engine.infer({"crop": crops[rows]})
        np.testing.assert_allclose(got["heads"], out.heads[rows], atol=1e-4)
        np.testing.assert_allclose(got["activation"], out.logits.sigmoid()[rows], atol=1e-4)
        np.testing.assert_allclose(got["maps"], out.maps[rows], atol=1e-4)
    assert np.ptp(out.heads.numpy(), axis=0).max() > 1e-3, "the pictures are not all one to it"


def test_the_graph_is_free_in_its_batch_and_says_nothing_of_the_machine(exported: Exported) -> None:
    path = exported.out / "model.onnx"
    network = onnx.load(path)
    for port in (*network.graph.input, *network.graph.output):
        assert port.type.tensor_type.shape.dim[0].dim_param == "faces"
    assert not network.functions
    assert not any(tensor.external_data for tensor in network.graph.initializer)
    for trace in (b"site-packages", b".py", b"Traceback", str(Path.home()).encode(), str(Path.cwd()).encode()):
        assert trace not in path.read_bytes()
    kernels = [tuple(tensor.dims) for tensor in network.graph.initializer if tensor.dims[-2:] == [7, 7]]
    assert kernels == [(3 * len(NAMES), 208, 7, 7)], "the three convolutions are one"


def test_the_manifest_describes_the_file(exported: Exported) -> None:
    manifest = exported.manifest
    digest = hashlib.sha256((exported.out / "model.onnx").read_bytes()).hexdigest()
    assert manifest.sha256 == digest
    assert manifest.identity == f"tiny@{digest[:12]}"
    assert tuple(concept.name for concept in manifest.concepts) == NAMES
    assert manifest.crop == exporter.CROP
    assert manifest.heads is not None
    assert manifest.heads.expressions == EXPRESSIONS
    assert manifest.heads.score_cuts == CUTS
    engine = OnnxRuntimeEngine(load_model_file("tiny", exported.out.parent))
    got = engine.infer({"crop": exporter.tensors(learnable(3))})
    assert {spec.name: (3, *spec.shape[1:]) for spec in manifest.outputs} == {n: v.shape for n, v in got.items()}


def test_contributions_add_up_and_refer_to_the_mean_of_the_training_pictures(exported: Exported) -> None:
    heads = exported.manifest.heads
    assert heads is not None
    engine = OnnxRuntimeEngine(load_model_file("tiny", exported.out.parent))
    tensors = engine.infer({"crop": exporter.tensors(learnable(32))})
    readouts = read(tensors, heads)
    for readout, own in zip(readouts, tensors["heads"], strict=True):
        assert readout.score == pytest.approx(float(own[0]), abs=1e-4)
        probabilities = np.exp(own[1:]) / np.exp(own[1:]).sum()
        np.testing.assert_allclose(readout.expressions, probabilities, atol=1e-4)
    mean = np.mean([readout.contributions for readout in readouts], axis=0)
    np.testing.assert_allclose(mean, 0.0, atol=1e-5)
    assert heads.base[0] == pytest.approx(float(tensors["heads"][:, 0].mean()), abs=1e-4)


def test_each_head_has_the_reference_of_its_own_pictures(exported: Exported) -> None:
    """Engagement pictures for the score, pictures with votes for the expressions."""
    both = learnable(24)
    voted, scored = both.take(np.arange(12)), both.take(np.arange(12, 24))
    voted.score[:], scored.votes[:] = np.nan, np.nan
    found = exporter.reference(exported.model, [scored, voted])
    np.testing.assert_allclose(found.mean[:, 0], exporter.shares(exported.model, scored)[:, 0], atol=1e-6)
    np.testing.assert_allclose(found.mean[:, 1:], exporter.shares(exported.model, voted)[:, 1:], atol=1e-6)
    np.testing.assert_allclose(found.base, exported.model.bias.detach().numpy() + found.mean.sum(0), atol=1e-6)


def test_reliability_is_measured_where_the_reference_is_to_be_believed(exported: Exported) -> None:
    """AU12 on photographs that the teacher labelled, AU1 on renders, whatever the order of the files."""
    photographs, renders = learnable(24), learnable(24, seed=2)
    renders.votes[:] = np.nan
    for part, flip in ((photographs, 1), (renders, -1)):
        own = predict(exported.model, part, 112)[1]
        part.concepts[:] = 0.5 + flip * (own - 0.5)  # the reference that the activations agree with, or its opposite
    for parts in ([photographs, renders], [renders, photographs]):
        rated = exporter.reliabilities(exported.model, parts)
        assert rated[INDEX["AU12"]] == (pytest.approx(1.0, abs=1e-3), "teacher")
        assert rated[INDEX["AU1"]] == (pytest.approx(-1.0, abs=1e-3), "render")
    photographs.weights[:] = 0.0
    r, name = exporter.reliabilities(exported.model, [photographs])[INDEX["AU12"]]
    assert np.isnan(r)
    assert name == ""


def test_another_network_is_not_written(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that change between the file and the check: export refuses, and what stood there still stands."""
    weights = torch.load(exported.weights, weights_only=True)
    weights["embed_bias"] += 0.01
    torch.save(weights, tmp_path / "weights.pt")
    stale = exported.out / "model.onnx"
    monkeypatch.setattr(exporter, "to_onnx", lambda model, path, side_px: shutil.copy(stale, path))
    for out in (tmp_path / "models" / "new", shutil.copytree(exported.out, tmp_path / "models" / "old")):
        before = {path.name: path.read_bytes() for path in out.glob("*")}
        with pytest.raises(exporter.ExportError, match=r"ONNX Runtime and torch differ by .*; not written"):
            exporter.export(exported.experiment, tmp_path / "weights.pt", out, CUTS)
        assert {path.name: path.read_bytes() for path in out.glob("*")} == before
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["old"]


def test_a_full_disk_leaves_what_was_there(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporter, "to_onnx", full)
    out = tmp_path / "models" / "tiny"
    out.mkdir(parents=True)
    (out / "model.onnx").write_bytes(b"before")
    with pytest.raises(exporter.ExportError, match=r"cannot write .*tiny: No space left on device"):
        exporter.export(exported.experiment, exported.weights, out, CUTS)
    assert [path.read_bytes() for path in out.iterdir()] == [b"before"]
    assert [path.name for path in out.parent.iterdir()] == ["tiny"]
    monkeypatch.undo()
    with pytest.raises(exporter.ExportError, match=r"cannot write .*model\.onnx"):
        exporter.export(exported.experiment, exported.weights, out / "model.onnx" / "tiny", CUTS)


def test_the_check_sees_every_output(exported: Exported, tmp_path: Path) -> None:
    """A file whose maps alone are another's is caught."""
    network = onnx.load(exported.out / "model.onnx")
    node = next(node for node in network.graph.node if "maps" in node.output)
    node.output[0] = "true_maps"
    network.graph.initializer.append(onnx.numpy_helper.from_array(np.float32([1.01]), "more"))
    network.graph.node.append(onnx.helper.make_node("Mul", ["true_maps", "more"], ["maps"]))
    onnx.save(network, tmp_path / "model.onnx")
    file = exporter.ModelFile(tmp_path / "model.onnx", exported.manifest)
    crops = exporter.tensors(learnable(6))
    assert exporter.parity(exported.model, file, crops) > 1e-4
    honest = load_model_file("tiny", exported.out.parent)
    assert exporter.parity(exported.model, honest, crops) <= 1e-4


def told(path: Path, weights: Path, out: Path, cuts: str = "0.3,0.6") -> str:
    said = io.StringIO()
    with pytest.raises(typer.Exit) as stopped, contextlib.redirect_stderr(said):
        exporter.main(path, weights, out, cuts)
    assert stopped.value.exit_code == 2
    message = said.getvalue().strip()
    assert message.startswith("error: ")
    assert "\n" not in message
    assert not out.exists()
    return message


def test_a_users_mistake_is_one_line_and_writes_nothing(exported: Exported, face: FaceModel, tmp_path: Path) -> None:
    out, path = tmp_path / "out", write_experiment(tmp_path, face)
    assert "experiment file not found" in told(tmp_path / "none.toml", exported.weights, out)
    assert "weights not found" in told(path, tmp_path / "none.pt", out)
    for cuts in ("0.3", "low,high", "0.1,0.2,0.3"):
        assert "--cuts takes two numbers, LOW,HIGH" in told(path, exported.weights, out, cuts)
    assert "the lower threshold first" in told(path, exported.weights, out, "0.6,0.3")
    wider = write_experiment(tmp_path / "wider", face, embedding="5")
    assert "weights.pt are not weights of tiny" in told(wider, exported.weights, out)
    save(tmp_path / "train.npz", join([learnable(31)]))
    (tmp_path / "valid.npz").unlink()
    assert "prepared crops not found" in told(path, exported.weights, out)


def test_an_untrained_network_needs_no_data_and_takes_as_long(
    face: FaceModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write_experiment(tmp_path, face), tmp_path / "models" / "born"
    for name in ("train.npz", "valid.npz"):
        (tmp_path / name).unlink()
    exporter.main(path, None, out, without_training=True)
    assert "untrained: its answers mean nothing" in capsys.readouterr().out
    model = load_model_file(out.name, out.parent)
    assert model.manifest.heads is not None and not np.any(model.manifest.heads.base)
    answers = OnnxRuntimeEngine(model).infer({"crop": np.zeros((2, 1, 112, 112), np.float32)})
    assert answers["heads"].shape == (2, 1 + len(EXPRESSIONS))
    for place, flag, says in ((out, False, "give either --weights, or --untrained"), (None, True, "needs --out")):
        with contextlib.redirect_stderr(io.StringIO()) as said, pytest.raises(typer.Exit):
            exporter.main(path, None, place, without_training=flag)
        assert says in said.getvalue()
