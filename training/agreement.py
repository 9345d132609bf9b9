"""How well annotators agree, and a model with them: `python -m training.agreement FERPLUS --split valid`.

What most of ten annotators call a face is itself a measurement with an error. Here the annotators of every picture are
dealt out at random into two halves. How often one half names what the other half names says what the labels hold; how
often a model does, how many annotators it is worth. A half names the expression with most of its votes, at random where
several have as many. Pictures are those whose most votes are for an expression, as in training.evaluate.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from engines.base import EngineError
from engines.spec import ManifestError
from training.concepts import EXPRESSIONS
from training.data import ferplus
from training.data.pictures import DataError, cut_crops
from training.data.writing import replaced
from training.evaluate import answers, open_model, parts_of

Ints = npt.NDArray[np.int64]


class Agreement(msgspec.Struct, frozen=True):
    """Shares of the pictures. halves: one half of the annotators names what the other half does. model_half: the model
    does; model_all: it names what all of them together do. spread: standard deviation of halves over the deals."""

    model: str
    split: str
    pictures: int
    deals: int
    halves: float
    spread: float
    model_half: float
    model_all: float


def named(counts: Ints, rng: np.random.Generator) -> Ints:
    """The expression with most votes, of counts [N, >= 8], at random where several have as many [N]."""
    of_expressions = counts[:, : len(EXPRESSIONS)]
    return np.asarray((of_expressions + rng.random(of_expressions.shape) * 0.5).argmax(1), np.int64)


def dealt(counts: Ints, rng: np.random.Generator) -> Ints:
    """Votes of one half of the annotators of every picture [N, C]."""
    return np.stack([rng.multivariate_hypergeometric(row, int(row.sum()) // 2) for row in counts])


def agreement(counts: Ints, answer: Ints, deals: int, seed: int = 0) -> tuple[float, float, float]:
    """halves, spread and model_half (see Agreement), of votes [N, C] and a model's answers [N]."""
    rng, people, model = np.random.default_rng(seed), [], []
    for _ in track(range(deals), description="deals"):
        half = dealt(counts, rng)
        other = named(counts - half, rng)
        people.append(float((named(half, rng) == other).mean()))
        model.append(float((answer == other).mean()))
    return float(np.mean(people)), float(np.std(people)), float(np.mean(model))


def main(
    data: Annotated[Path, typer.Argument(help="FER+: its folder, or the npz")],
    split: Annotated[str, typer.Option(help="train, valid or test")] = "valid",
    model: Annotated[str, typer.Option(help="a folder under models/, or a path with a / in it")] = "agcm-live",
    deals: Annotated[int, typer.Option(min=1, help="how often the annotators are dealt out")] = 20,
    json: Annotated[Path | None, typer.Option(help="also write the figures here")] = None,
) -> None:
    """How often halves of the annotators agree with each other, and a model with a half."""
    try:
        corpus = ferplus.load(data, split)
        detector, engine = open_model(model, "onnxruntime")
        crop, _ = parts_of(engine.manifest)
        made = cut_crops(detector, list(corpus.pictures), ferplus.POINT_SHARES, crop.size_px)
        answer = np.array([int(each.expressions.argmax()) for each in answers(engine, made.crops)])
    except (DataError, ManifestError, EngineError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    halves, spread, model_half = agreement(corpus.counts, answer, deals)
    model_all = float((answer == corpus.majority).mean())
    found = Agreement(engine.manifest.identity, split, len(answer), deals, halves, spread, model_half, model_all)
    table = Table(title=f"FER+ {split}, {found.pictures} pictures")
    table.add_column("who names the expression")
    table.add_column("that half of the annotators name")
    table.add_row("the other half", f"{halves:.1%}")
    table.add_row(found.model, f"{model_half:.1%} ({model_all:.1%} that all of them name)")
    Console().print(table)
    if json is not None:
        with replaced(json) as partial:
            partial.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


if __name__ == "__main__":
    typer.run(main)
