"""The network hears the past only, and hears the same however the sound is cut."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch")

import onnxruntime
import torch
import typer

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.hear import Listener
from engines.spec import ModelFile, load_model_file
from engines.voice import CONCEPTS, HOP
from training.voice.model import BIN_ST, COLUMNS, PITCH_BINS, Spoken, VoiceNet, pitch_st
from training.voice.reliability import ConceptFigures
from training.voice.train import VoiceFigures


@pytest.fixture(scope="module")
def spoken() -> Spoken:
    torch.manual_seed(0)
    network = VoiceNet()
    network.train()
    with torch.no_grad():
        network(torch.randn(4, 200 * HOP) * 0.1, torch.zeros(4, network.memory_size))
    return Spoken(network.eval())


@pytest.fixture
def sound() -> torch.Tensor:
    return torch.randn(2, 60 * HOP, generator=torch.Generator().manual_seed(1)) * 0.1


def silence(spoken: Spoken, count: int = 2) -> torch.Tensor:
    return torch.zeros(count, spoken.network.memory_size)


@torch.no_grad()
def test_calls_of_any_length_say_the_same(spoken: Spoken, sound: torch.Tensor) -> None:
    whole, end = spoken(sound, silence(spoken))
    assert whole.shape == (2, 60, len(COLUMNS))
    memory, parts, start = silence(spoken), [], 0
    for steps in (1, 2, 3, 4, 20, 30):
        heard, memory = spoken(sound[:, start * HOP : (start + steps) * HOP], memory)
        parts.append(heard)
        start += steps
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(memory, end, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_what_is_to_come_changes_nothing(spoken: Spoken, sound: torch.Tensor) -> None:
    other = sound.clone()
    other[:, 40 * HOP :] = 0.0
    one, two = (spoken(each, silence(spoken))[0] for each in (sound, other))
    torch.testing.assert_close(one[:, :40], two[:, :40], atol=1e-3, rtol=1e-3)
    assert not torch.allclose(one[:, 41:], two[:, 41:], atol=1e-2)


def test_pitch_is_read_between_the_bins() -> None:
    bins = torch.arange(PITCH_BINS, dtype=torch.float32)
    for truth in (10.0, 10.3, 33.5):
        logits = -((bins - truth / BIN_ST) ** 2) / 2
        assert float(pitch_st(logits[None, None])) == pytest.approx(truth, abs=0.03)
    two_peaks = torch.full((1, 1, PITCH_BINS), -9.0)
    two_peaks[..., 10], two_peaks[..., 34] = 3.0, 2.0
    assert float(pitch_st(two_peaks)) == pytest.approx(5.0, abs=0.01), "a second peak does not pull it away"


def test_the_exported_file_hears_the_same(spoken: Spoken, sound: torch.Tensor, tmp_path: Path) -> None:
    from training.voice.export import to_onnx

    to_onnx(spoken, tmp_path / "voice.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "voice.onnx"), providers=["CPUExecutionProvider"])
    memory = np.zeros((1, spoken.network.memory_size), np.float32)
    parts = []
    for start, steps in ((0, 3), (3, 4), (7, 53)):
        samples = sound[:1, start * HOP : (start + steps) * HOP].numpy()
        voice, memory = session.run(["voice", "memory_out"], {"samples": samples, "memory": memory})
        parts.append(voice)
    with torch.no_grad():
        whole, _ = spoken(sound[:1], silence(spoken, 1))
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole.numpy(), atol=2e-3, rtol=1e-3)


def heard_by(file: ModelFile) -> np.ndarray:
    """A second of noise, as a file hears it."""
    noise = np.random.default_rng(0).normal(0, 0.1, 100 * HOP).astype(np.float32)
    return Listener(OnnxRuntimeEngine(file)).hear(noise)


def test_a_model_of_something_else_is_not_written_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from training.voice import export

    with pytest.raises(typer.Exit):
        export.main(Path("models/centerface"), tmp_path / "voice")
    assert "is not the voice network" in capsys.readouterr().err
    assert not (tmp_path / "voice").exists()


def test_the_command_writes_the_file_or_nothing(
    spoken: Spoken, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.voice import export

    speaking = ConceptFigures("speaking", "", 0.91, 0.1, 0.95, 1.0, 100)
    figures = VoiceFigures(0.9, 0.9, 0.9, 10.0, 0.1, 0.8, 0.7, ("somebody",), 0.1, (speaking,))
    for name, state in (("whole", spoken.network.state_dict()), ("other", {"other": torch.zeros(1)})):
        (tmp_path / name).mkdir()
        torch.save(state, tmp_path / name / "weights.pt")
        (tmp_path / name / "figures.json").write_bytes(msgspec.json.encode(figures))
    export.main(tmp_path / "whole", tmp_path / "models" / "voice")
    assert "ONNX Runtime and torch differ by" in capsys.readouterr().out
    file = load_model_file("voice", tmp_path / "models")
    assert tuple(concept.name for concept in file.manifest.concepts) == CONCEPTS
    assert [concept.reliability for concept in file.manifest.concepts] == [0.91, *[None] * (len(CONCEPTS) - 1)]
    export.main(file.path.parent, tmp_path / "models" / "again")
    again = load_model_file("again", tmp_path / "models")
    assert again.manifest.concepts == file.manifest.concepts
    np.testing.assert_allclose(heard_by(again), heard_by(file), atol=1e-3)
    (tmp_path / "models" / "again" / "model.onnx").unlink()
    monkeypatch.setattr(export, "TOLERANCE", 0.0)
    for name, words in (("none", "weights not found"), ("other", "no weights of the voice"), ("whole", "differ by")):
        with pytest.raises(typer.Exit) as stopped:
            export.main(tmp_path / name, tmp_path / "models" / "again")
        assert stopped.value.exit_code == 2
        assert words in capsys.readouterr().err
        assert not (tmp_path / "models" / "again" / "model.onnx").exists()
