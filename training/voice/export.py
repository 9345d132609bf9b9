"""The voice network as a model folder: `python -m training.voice.export runs/voice --out models/agcm-voice`.

A model folder can take the place of a training's: then its weights are written again, with the front end of this code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec
import numpy as np
import onnx
import torch
import typer

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.base import EngineError
from engines.hear import Listener
from engines.spec import ConceptSpec, Manifest, ManifestError, ModelFile, TensorSpec, load_model_file
from engines.voice import CONCEPTS, HOP
from training.data.pictures import DataError
from training.data.writing import replaced
from training.experiment import ExperimentError
from training.graphs import GraphError, graph_of
from training.run import load_weights
from training.voice.compose import noise, vowel
from training.voice.model import COLUMNS, Spoken, VoiceNet
from training.voice.train import VoiceFigures

TOLERANCE = 1e-2
"""Of probabilities, semitones and decibels: what is heard is no better than that."""
MEANINGS: Final[Mapping[str, str]] = {
    "speaking": "probability that a person speaks",
    "loudness": "LKFS of the last 0.4 s while speaking; active: louder than the speaker's usual",
    "pitch_height": "semitones above the speaker's median",
    "pitch_movement": "standard deviation of the pitch in the last 1.5 s, semitones",
    "speech_rate": "syllables a second in the last 3 s",
    "clear_voice": "harmonics-to-noise ratio of voiced sound in the last second, dB",
    "vocal_effort": "alpha ratio of voiced sound in the last second, dB; active: more power above 1 kHz",
    "jitter": "how far consecutive periods of the vocal folds were apart in the last second, % of their mean",
    "silence": "seconds since somebody spoke",
    "takes_turn": "seconds since speech began after a pause; active: just now",
}


def to_onnx(spoken: Spoken, path: Path) -> None:
    """samples [1, 160 n], memory [1, M] -> voice [1, n, COLUMNS], memory_out [1, M]; n is free."""
    example = torch.zeros(1, 4 * HOP), torch.zeros(1, spoken.network.memory_size)
    free = ({1: HOP * torch.export.Dim("steps", min=1, max=4096)}, None)
    graph = graph_of(spoken.eval(), example, (["samples", "memory"], ["voice", "memory_out"]), free)
    onnx.checker.check_model(graph, full_check=True)
    path.write_bytes(graph.SerializeToString(deterministic=True))


def concepts_of(figures: VoiceFigures) -> tuple[ConceptSpec, ...]:
    """Voice concepts as a manifest lists them. Reliabilities are those of voices as microphones hear them."""
    rated = {each.concept: each.r for each in figures.concepts}
    return tuple(
        ConceptSpec(
            each, "voice", MEANINGS[each], round(rated[each], 4) if np.isfinite(rated.get(each, np.nan)) else None,
            "teacher" if each in rated else "",
        )
        for each in CONCEPTS
    )  # fmt: skip


def manifest_for(path: Path, name: str, spoken: Spoken, concepts: tuple[ConceptSpec, ...]) -> Manifest:
    """The manifest of an exported file."""
    memory = spoken.network.memory_size
    return Manifest(
        name=name,
        file=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        inputs=(TensorSpec("samples", "float32", (1, -1)), TensorSpec("memory", "float32", (1, memory))),
        outputs=(
            TensorSpec("voice", "float32", (1, -1, len(COLUMNS))),
            TensorSpec("memory_out", "float32", (1, memory)),
        ),
        concepts=concepts,
    )


@torch.no_grad()
def parity(spoken: Spoken, file: ModelFile) -> float:
    """Largest difference between ONNX Runtime, fed in parts, and torch over two seconds: a voice in noise, what fades
    below any microphone, and nothing at all."""
    rng = np.random.default_rng(0)
    count = 100 * HOP
    voice = vowel(np.linspace(10, 20, count), rng) + 0.01 * noise(count, rng)
    fading = noise(count, rng) * np.logspace(-2, -9, count)
    fading[-20 * HOP :] = 0.0
    sound = np.concatenate([voice, fading]).astype(np.float32)
    whole, _ = spoken(torch.from_numpy(sound)[None], torch.zeros(1, spoken.network.memory_size))
    listener = Listener(OnnxRuntimeEngine(file))
    parts = [listener.hear(sound[start * HOP : (start + 5) * HOP]) for start in range(0, 200, 5)]
    apart = np.abs(np.concatenate(parts)[:, : len(COLUMNS)] - whole[0].numpy())
    return float(apart.max()) if np.isfinite(apart).all() else float("inf")


def write(spoken: Spoken, concepts: tuple[ConceptSpec, ...], out: Path) -> float:
    """Write the folder, or nothing: raises GraphError where ONNX Runtime hears something else than torch, DataError if
    it cannot be written."""
    with replaced(out / "model.onnx") as partial:
        to_onnx(spoken, partial)
        manifest = manifest_for(partial, out.name, spoken, concepts)
        if not (off := parity(spoken, ModelFile(partial, manifest))) <= TOLERANCE:
            raise GraphError(f"{out} is not written: ONNX Runtime and torch differ by {off:.1e}")
    described = msgspec.structs.replace(manifest, file="model.onnx")
    with replaced(out / "manifest.json") as partial:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(described), indent=1) + b"\n")
    return off


def shipped(folder: Path) -> tuple[Spoken, tuple[ConceptSpec, ...]]:
    """The network of a model folder, whose export has merged the blocks' norms with the convolutions before them.
    Raises ManifestError or DataError."""
    file = load_model_file(folder.name, folder.parent)
    graph = onnx.load(file.path).graph
    found = {each.name: torch.from_numpy(onnx.numpy_helper.to_array(each).copy()) for each in graph.initializer}
    network = VoiceNet()
    for block in network.blocks.children():
        norm = block.get_submodule("norm")
        assert isinstance(norm, torch.nn.BatchNorm1d) and norm.running_var is not None
        norm.running_var.fill_(1.0 - norm.eps)
    state = network.state_dict()
    missing = [name for name in state if f"network.{name}" not in found and ".norm." not in name and "num_" not in name]
    if missing:
        raise DataError(f"{file.path} is not the voice network: it has no {missing[0]}")
    network.load_state_dict({name: found.get(f"network.{name}", value) for name, value in state.items()})
    return Spoken(network.eval()), file.manifest.concepts


def read(folder: Path) -> tuple[Spoken, tuple[ConceptSpec, ...]]:
    """What training.voice.train wrote. Raises DataError or ExperimentError naming what is not there or is another."""
    try:
        network = VoiceNet()
        network.load_state_dict(load_weights(folder / "weights.pt"))
        figures = msgspec.json.decode((folder / "figures.json").read_bytes(), type=VoiceFigures)
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}; training.voice.train writes it") from error
    except msgspec.MsgspecError as error:
        raise DataError(f"{folder / 'figures.json'}: {error}") from error
    except RuntimeError as error:
        if isinstance(error, ExperimentError):
            raise
        raise DataError(f"{folder / 'weights.pt'} holds no weights of the voice network") from error
    return Spoken(network.eval()), concepts_of(figures)


def main(
    trained: Annotated[Path, typer.Argument(help="folder of training.voice.train, or a model folder")],
    out: Annotated[Path, typer.Option(help="model folder to write; its name is the model's")],
) -> None:
    """Export the voice network and check that ONNX Runtime hears the same."""
    try:
        source = shipped if (trained / "manifest.json").is_file() else read
        off = write(*source(trained), out)
    except (DataError, ExperimentError, GraphError, EngineError, ManifestError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    size_mb = (out / "model.onnx").stat().st_size / 1e6
    typer.echo(f"wrote {out}: {size_mb:.1f} MB; ONNX Runtime and torch differ by {off:.1e}")


if __name__ == "__main__":
    typer.run(main)
