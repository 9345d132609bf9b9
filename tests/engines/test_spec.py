"""A model folder is used only if its parts are there and belong together."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from engines.fusion import HearingSpec
from engines.spec import MODELS_DIR, Manifest, ManifestError, ModelFile, available, load_model_file, load_voice_file


@pytest.fixture
def models(tiny: ModelFile, tmp_path: Path) -> Path:
    """A models folder with a copy of the tiny model, to be spoilt."""
    shutil.copytree(tiny.path.parent, tmp_path / "tiny")
    return tmp_path


def edit(models: Path, **changes: object) -> None:
    """Change entries of the manifest; None removes one."""
    path = models / "tiny" / "manifest.json"
    content = msgspec.json.decode(path.read_bytes(), type=dict[str, object])
    content.update(changes)
    path.write_bytes(msgspec.json.encode({key: value for key, value in content.items() if value is not None}))


def refusal(models: Path, name: str = "tiny") -> str:
    with pytest.raises(ManifestError) as told:
        load_model_file(name, models)
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize("name", available())
def test_every_shipped_model_is_whole(name: str) -> None:
    model = load_model_file(name)
    assert model.manifest.name == name
    assert model.path.is_relative_to(MODELS_DIR)
    assert (model.path.parent == MODELS_DIR / name) == (model.manifest.hearing is None)
    voice = load_voice_file(model)
    assert (voice is None) == (model.manifest.hearing is None)


def test_a_model_that_hears_wants_the_voice_network_that_it_was_made_with(models: Path, tiny: ModelFile) -> None:
    hearing = HearingSpec("tiny", "f" * 64, 9)
    other = ModelFile(tiny.path, msgspec.structs.replace(tiny.manifest, hearing=hearing))
    with pytest.raises(ManifestError, match="was made with another tiny"):
        load_voice_file(other, models)
    fewer = msgspec.structs.replace(hearing, sha256=tiny.manifest.sha256)
    with pytest.raises(ManifestError, match="hears 9 concepts"):
        load_voice_file(ModelFile(tiny.path, msgspec.structs.replace(tiny.manifest, hearing=fewer)), models)
    assert load_voice_file(tiny, models) is None
    names = {ModelFile(tiny.path, m).manifest.identity for m in (tiny.manifest, other.manifest)}
    assert len(names) == 2, "what it hears with is part of what it is called"


def test_a_good_folder_loads(models: Path, tiny: ModelFile) -> None:
    model = load_model_file("tiny", models)
    assert model.manifest == tiny.manifest
    assert model.manifest.identity == f"tiny@{tiny.manifest.sha256[:12]}"


def test_an_unknown_model_is_told_which_there_are(models: Path, tmp_path: Path) -> None:
    assert "unknown model 'huge'" in refusal(models, "huge")
    assert "available: tiny" in refusal(models, "huge")
    assert "available: none" in refusal(tmp_path / "nowhere", "huge")


def test_a_network_that_was_changed_is_refused(models: Path) -> None:
    path = models / "tiny" / "model.onnx"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "model.onnx does not match its manifest (sha256" in refusal(models)


def test_a_missing_network_is_refused(models: Path) -> None:
    (models / "tiny" / "model.onnx").unlink()
    assert "model 'tiny' is incomplete" in refusal(models)


def test_what_cannot_be_read_is_refused_by_name(models: Path) -> None:
    path = models / "tiny" / "manifest.json"
    path.unlink()
    path.symlink_to(models / ("x" * 300))
    assert refusal(models).startswith("model 'tiny' cannot be read: File name too long: ")
    assert "manifest.json" in refusal(models)


def test_a_manifest_that_is_no_json_is_refused(models: Path) -> None:
    (models / "tiny" / "manifest.json").write_text('{"name": "ti')
    assert "manifest.json is not a valid manifest" in refusal(models)


def test_unknown_and_missing_entries_are_refused(models: Path) -> None:
    edit(models, flavour="sweet")
    assert "flavour" in refusal(models)
    edit(models, flavour=None, sha256=None)
    assert "sha256" in refusal(models)


def test_heads_that_do_not_fit_are_refused(models: Path, tiny: ModelFile) -> None:
    heads = tiny.manifest.heads
    assert heads is not None
    edit(models, heads=msgspec.structs.replace(heads, mean=heads.mean[1:]))
    assert "3 rows for 4 concepts" in refusal(models)
    content = msgspec.to_builtins(heads)
    edit(models, heads={**content, "base": content["base"][1:]})
    assert "need 4 numbers, score first" in refusal(models)
    edit(models, heads={**content, "mean": [row[1:] for row in content["mean"]]})
    assert "need 4 numbers, score first" in refusal(models)


def test_a_manifest_from_before_there_were_intervals_loads(models: Path) -> None:
    """Its probabilities are the plain softmax, and it says nothing of how far the score is off."""
    path = models / "tiny" / "manifest.json"
    heads = msgspec.json.decode(path.read_bytes())["heads"]
    edit(models, heads={name: heads[name] for name in ("expressions", "base", "mean", "score_cuts")})
    heads = load_model_file("tiny", models).manifest.heads
    assert heads is not None
    assert (heads.temperature, heads.calibrated_to, heads.interval) == (1.0, "", None)


def test_an_interval_or_a_temperature_that_cannot_be_is_refused(models: Path, tiny: ModelFile) -> None:
    heads = msgspec.to_builtins(tiny.manifest.heads)
    spread = {"intercept": 0.2, "activation": [0.1] * 4, "contribution": [0.1] * 4, "floor": 0.05}
    edit(models, heads={**heads, "interval": {"coverage": 0.9, "quantile": 1.5, "spread": spread}})
    loaded = load_model_file("tiny", models).manifest.heads
    assert loaded is not None and loaded.interval is not None and loaded.interval.spread is not None
    for change, words in (
        ({"coverage": 1.0, "quantile": 0.4}, "0 < coverage < 1"),
        ({"coverage": 0.9, "quantile": 0.0}, "quantile > 0"),
        ({"coverage": 0.9, "quantile": 1.5, "spread": {**spread, "activation": [0.1] * 3}}, "needs 4 weights"),
        ({"coverage": 0.9, "quantile": 1.5, "spread": {**spread, "floor": 0.0}}, "floor must be above 0"),
    ):
        edit(models, heads={**heads, "interval": change})
        assert words in refusal(models)
    edit(models, heads={**heads, "temperature": 0.0})
    assert "temperature must be above 0" in refusal(models)


def test_a_crop_that_cannot_be_normalised_is_refused(models: Path) -> None:
    edit(models, crop={"size_px": 112, "mean": 0.5, "std": 0.0})
    assert "std > 0" in refusal(models)


def test_a_manifest_survives_its_own_file(tiny: ModelFile) -> None:
    assert msgspec.json.decode(msgspec.json.encode(tiny.manifest), type=Manifest) == tiny.manifest
