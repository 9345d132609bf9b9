"""What an engine in a lower precision costs: `python -m calibration.precision CROPS --model agcm-live`.

It answers crops of faces beside ONNX Runtime in float32, one at a time, as live.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer
from rich.progress import track

from calibration.crops import crops_of
from calibration.int8 import Subject, away, highest, leave, subject_of
from engines.backends import BACKENDS
from engines.base import Engine
from engines.choose import load
from engines.concept import ConceptReadout, read
from engines.preprocess import to_tensor
from engines.spec import Away, model_at

_MOST: Final = 1_000

HELP = """Say how far an engine in a lower precision is from float32: scores, activations, contributions, expressions.

\b
CROPS are media files with faces, or npz files with crops (uint8 [N, S, S]), of which the middle is taken where they
have a margin; a thousand of them at most.

\b
  python -m calibration.precision examples/demo/demo.mp4 --model agcm-live --engine openvino --precision bf16
  python -m calibration.precision runs/data/ferplus_valid.npz --model agcm-live --engine onnxruntime --precision int8

Exit codes: 0 done, 2 a mistake in the arguments or files, or an engine that cannot run here
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


def answers(engine: Engine, subject: Subject, crops: np.ndarray) -> list[ConceptReadout]:
    """Of crops uint8 [N, S, S], one after another."""
    found: list[ConceptReadout] = []
    for crop in track(crops, description=engine.backend):
        found += read(engine.infer({"crop": to_tensor(crop[None], subject.crop)}), subject.heads)
    return found


def own_shares(far: Away, reference: Sequence[ConceptReadout], concepts: Sequence[str]) -> dict[str, float]:
    """How far the mean absolute value of each concept's contribution moves, as a share of it; concepts that contribute
    nothing have none."""
    usual = np.mean([np.abs(each.contributions[:, 0]) for each in reference], axis=0)
    return {name: far.sizes[name] / size for name, size in zip(concepts, usual.tolist(), strict=True) if size > 0}


def told(backend: str, far: Away, shares: dict[str, float], count: int) -> str:
    """What the command says, over some lines. count: of crops."""
    activation, contribution, size = (highest(each) for each in (far.activations, far.contributions, far.sizes))
    own = max(shares, key=shares.__getitem__, default="none")
    return "\n".join(
        [
            f"{backend}, {count} crops: score off by {far.score:.4f} on average, {far.most_score:.4f} at most; the "
            f"first expression stays in {far.same:.1%}",
            f"  activations off by {far.activation:.5f} on average, of one concept by {activation} at most, and by "
            f"{far.most_activation:.4f} in one crop",
            f"  contributions off by {far.contribution:.5f} on average, of one concept by {contribution} at most",
            f"  mean absolute values of contributions move by {size} at most, and by {shares.get(own, 0.0):.2%} of its "
            f"own ({own}) at most",
        ]
    )


@app.command(help=HELP)
def main(
    crops: Annotated[list[Path], typer.Argument(metavar="CROPS", help="media files with faces, or npz files")],
    model: Annotated[str, typer.Option(metavar="NAME", help="a folder under models/, or a path with a / in it")],
    engine: Annotated[str, typer.Option(metavar="NAME", help=f"one of {', '.join(BACKENDS)}")] = "openvino",
    precision: Annotated[str, typer.Option(help="one that the engine has: fp32, bf16, fp16, int8")] = "bf16",
    seed: Annotated[int, typer.Option(help="which crops are taken")] = 0,
) -> None:
    subject = subject_of(model_at(model))
    found = np.concatenate([crops_of(path, subject.crop.size_px) for path in crops])
    chosen = found[np.random.default_rng(seed).permutation(len(found))[:_MOST]]
    sample = {"crop": to_tensor(chosen[:1], subject.crop)}
    other = load(engine, subject.file, precision, 2, sample)
    reference = load("onnxruntime", subject.file, "fp32", 2, sample)
    wanted = answers(reference, subject, chosen)
    far = away(answers(other, subject, chosen), wanted, subject.concepts)
    print(told(other.backend, far, own_shares(far, wanted, subject.concepts), len(chosen)))
    reference.close()
    other.close()


if __name__ == "__main__":
    leave(app)
