"""The whole command on a few generated pictures, and its refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from engines.spec import available
from tests.training.material import learnable, write_experiment, write_teacher
from training.data.samples import save
from training.explain import run as explaining
from training.explain.__main__ import app
from training.explain.material import gather
from training.synthetic.ict import FaceModel

needs_model = pytest.mark.skipif("agcm-live" not in available(), reason="models/agcm-live is not there")


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    return result.exit_code, result.output


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """The four prepared files and their teachers, tiny."""
    folder = tmp_path / "data"
    for seed, name in enumerate(("ferplus_train", "ferplus_valid", "wacv2016", "renders_valid")):
        save(folder / f"{name}.npz", learnable(60, seed))
        write_teacher(folder / f"{name}.teacher.npz", np.ones(60, bool))
    return folder


@needs_model
def test_a_report_has_every_section(prepared: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    asked = ("--data", str(prepared), "--quick", "--threads", "1", "--ict", "none", "--originals", "none")
    code, text = run(*asked, "--out", str(out))
    assert code == 0, text
    page = (out / "README.md").read_text()
    assert [line[3] for line in page.splitlines() if line.startswith("## ")] == list("1234567")
    for picture in ("sums", "deletion", "interventions", "concepts", "groups"):
        assert f"({picture}.png)" in page
        assert (out / f"{picture}.png").stat().st_size > 5_000
    assert "Quick run" in page
    assert "Pointing was not measured" in page
    figures = json.loads((out / "figures.json").read_text())
    assert figures["pictures"] == {"FER+ valid": 60, "WACV 2016": 60, "renders": 60}
    assert all(each["published_max"] <= 1e-4 for each in figures["sums"] if not each["absent"])
    assert str(tmp_path) not in page, "a page names no folder of the machine"


@needs_model
def test_another_model_is_asked_with_crops_of_its_own_side(face: FaceModel, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    from training import export
    from training.experiment import load
    from training.run import Run

    experiment = load(write_experiment(tmp_path / "viewed", face, crop_px="48", token_order='"viewed"'))
    trained = Run(experiment, tmp_path / "run")
    trained.averaged.state["score.bias"] += 3.0  # so that concepts are active
    trained.folder.mkdir()
    trained.save()
    export.export(experiment, tmp_path / "run" / "weights.pt", tmp_path / "models" / "viewed", (0.3, 0.6))
    with explaining.opened(explaining.concept_model("agcm-live"), 1) as engine:
        part = gather(engine, learnable(6), "toys", "exact labels", np.arange(6))
    with explaining.opened(explaining.concept_model(str(tmp_path / "models" / "viewed")), 1) as other:
        again = explaining.gather_again(other, part)
        hidden, _ = explaining.maps_of(other, (again,), None, replace(explaining.QUICK, hidden=2), 1)
    assert (part.crops.shape, again.crops.shape) == ((6, 112, 112), (6, 48, 48))
    assert again.answers.maps.shape[2:] == (3, 3)
    assert {(each.model.partition("@")[0], each.map) for each in hidden} == {
        ("viewed", "own"), ("viewed", "other"), ("viewed", "shuffled"), ("viewed", "own grey"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "nobody"), "unknown model 'nobody'"),
        (("--model", "centerface"), "not a concept model"),
    ],
)
def test_a_wrong_model_is_one_clear_line(arguments: tuple[str, ...], words: str) -> None:
    code, text = run(*arguments)
    assert code == 2
    assert words in text
    assert len(text.strip().splitlines()) == 1


@needs_model
def test_missing_data_are_named(tmp_path: Path) -> None:
    code, text = run("--data", str(tmp_path))
    assert code == 2
    assert "ferplus_valid.npz" in text
    assert "training.prepare" in text


@needs_model
def test_labels_of_other_pictures_are_refused(prepared: Path) -> None:
    write_teacher(prepared / "ferplus_valid.teacher.npz", np.ones(40, bool))
    code, text = run("--data", str(prepared), "--quick")
    assert code == 2
    assert "ferplus_valid.teacher.npz labels 40 crops" in text
