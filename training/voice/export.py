"""The voice network as a file: `python -m training.voice.export runs/voice/weights.pt --out voice.onnx`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import onnx
import onnxruntime
import torch
import typer

from engines.voice import HOP
from training.data.pictures import DataError
from training.data.writing import replaced
from training.experiment import ExperimentError
from training.graphs import GraphError, graph_of
from training.run import load_weights
from training.voice.compose import noise, vowel
from training.voice.model import Spoken, VoiceNet

TOLERANCE = 1e-2
"""Of probabilities, semitones and decibels: what is heard is no better than that."""


def to_onnx(spoken: Spoken, path: Path) -> None:
    """samples [1, 160 n], memory [1, M] -> voice [1, n, COLUMNS], memory_out [1, M]; n is free."""
    example = torch.zeros(1, 4 * HOP), torch.zeros(1, spoken.network.memory_size)
    free = ({1: HOP * torch.export.Dim("steps", min=1, max=4096)}, None)
    graph = graph_of(spoken.eval(), example, (["samples", "memory"], ["voice", "memory_out"]), free)
    onnx.checker.check_model(graph, full_check=True)
    path.write_bytes(graph.SerializeToString(deterministic=True))


@torch.no_grad()
def parity(spoken: Spoken, path: Path) -> float:
    """Largest difference between ONNX Runtime, fed in parts, and torch over two seconds of a voice in noise."""
    rng = np.random.default_rng(0)
    count = 200 * HOP
    sound = vowel(np.linspace(10, 20, count), rng) + 0.01 * noise(count, rng)
    whole, _ = spoken(torch.from_numpy(sound)[None], torch.zeros(1, spoken.network.memory_size))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    memory, parts = np.zeros((1, spoken.network.memory_size), np.float32), []
    for start in range(0, 200, 5):
        samples = sound[None, start * HOP : (start + 5) * HOP]
        voice, memory = session.run(["voice", "memory_out"], {"samples": samples, "memory": memory})
        parts.append(voice)
    return float(np.abs(np.concatenate(parts, axis=1) - whole.numpy()).max())


def write(spoken: Spoken, out: Path) -> float:
    """Write the file, or nothing: raises GraphError where ONNX Runtime hears something else than torch."""
    with replaced(out) as partial:
        to_onnx(spoken, partial)
        if not (off := parity(spoken, partial)) <= TOLERANCE:
            raise GraphError(f"{out} is not written: ONNX Runtime and torch differ by {off:.1e}")
    return off


def main(
    weights: Annotated[Path, typer.Argument(help="weights.pt of training.voice.train")],
    out: Annotated[Path, typer.Option(help="ONNX file to write")],
) -> None:
    """Export the voice network and check that ONNX Runtime hears the same."""
    try:
        network = VoiceNet()
        network.load_state_dict(load_weights(weights))
        off = write(Spoken(network.eval()), out)
    except RuntimeError as error:
        reason = error if isinstance(error, GraphError) else f"{weights} holds no weights of the voice network"
        typer.echo(f"error: {reason}", err=True)
        raise typer.Exit(2) from error
    except (DataError, ExperimentError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"wrote {out}: {out.stat().st_size / 1e6:.1f} MB; ONNX Runtime and torch differ by {off:.1e}")


if __name__ == "__main__":
    typer.run(main)
