"""NoXi / MultiMediate end to end: `python -m training.timed.noxi FOLDER --out DIR`.

FOLDER is NoXi's official layout (or what training.synthetic.noxi simulates in it). Every participant is seen and heard
once. One timed head is then fitted on the training sessions, with the sound left out now and then (calibration.head),
and measured on the validation sessions from what is seen (V) and from both (V+A) by the challenge's figure: one CCC
over all frames of all sessions and roles together, with variances of the population. CCC per session is a diagnostic.
Heads that are fitted to one sense alone, and one whose pictures come first, stand beside it. Where the corpus has
labels of concepts (NoXi's OpenFace 2 streams, the truth of simulated sessions) heads read concepts as these labels name
them (training.timed.reading). A GRU and a TCN on the same streams say what it costs that the head is linear.
Predictions are written one value a line, as the challenge takes them; for the test sessions too, whose labels the
organisers hold, where FOLDER has their recordings.

Where `truth.npz` files are beside the videos (simulation), what the head says a concept contributed is compared with
what it did contribute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from calibration.head import Head, Session, fit, row, rows, spec_of
from calibration.joined import JoinError, joined, learnt_hearing, write
from calibration.labelled import LabelError
from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.base import Engine, EngineError
from engines.fusion import ReadingSpec, TimedSpec
from engines.spec import ManifestError, load_model_file, model_at
from training.concepts import NAMES
from training.data.noxi import FOLDERS, LABEL_HZ
from training.data.pictures import DataError
from training.data.writing import replaced
from training.evaluate import parts_of
from training.metrics import ccc
from training.timed.causes import Recovery, recovery_of, sizes_of
from training.timed.participants import (
    MEMORY,
    Participant,
    columns,
    first,
    read_by,
    reading_of,
    sessions,
    streams_of,
    stride,
    told_faces,
    usual_of,
)  # fmt: skip
from training.timed.plots import draw
from training.timed.rivals import RIVALS, fitted
from training.timed.streams import Eyes

F64 = npt.NDArray[np.float64]
Trust = tuple[Sequence[float], Sequence[float]]
WAYS: Mapping[str, tuple[int, ...]] = {"V": (0,), "A": (1,), "V+A": (0, 1)}
_RIVAL_STEPS = 600


class Figures(msgspec.Struct, frozen=True):
    """ccc: the challenge's, over all validation frames; per_session: the mean of each participant's own."""

    way: str
    ccc: float
    per_session: float


class Outcome(msgspec.Struct, frozen=True):
    """read: concepts as the corpus' labels name them were fitted on the training sessions. simulated: the sessions were
    made by training.synthetic.noxi. Only then is known what was found again: by the head; by heads that take
    activations as the network gives them, and beside them what concepts say to the shipped score; and by one that is
    told the concepts of faces as they were shown, so that what is lost between them is lost in seeing."""

    model: str
    simulated: bool
    read: bool
    frames: int
    figures: tuple[Figures, ...]
    found: Recovery | None = None
    found_unread: Recovery | None = None
    found_embedded: Recovery | None = None
    found_told: Recovery | None = None


def judged(way: str, answers: Sequence[F64], labels: Sequence[F64]) -> Figures:
    """The challenge's figure and the diagnostic; frames without a label do not count."""
    known = [~np.isnan(label) for label in labels]
    pairs = [(answer[rows], label[rows]) for answer, label, rows in zip(answers, labels, known, strict=True)]
    together = tuple(np.concatenate(side) for side in zip(*pairs, strict=True))
    own = [ccc(answer, label) for answer, label in pairs if len(label) > 1]
    return Figures(way, ccc(together[0], together[1]), float(np.nanmean(own)))


def only(parts: Sequence[Session], rows: tuple[int, ...]) -> list[Session]:
    """The sessions with some of their branches."""
    return [Session(tuple(each.taps[i] for i in rows), each.label) for each in parts]


def pictures_first(learnt: Sequence[Session], trust: Trust) -> Head:
    """What is seen is fitted alone and stays; what is heard is fitted to what is left."""
    seen = fit(only(learnt, (0,)), trust[:1])
    left = [Session((each.taps[1],), each.label - seen.score(each.taps[:1])) for each in learnt]
    heard = fit(left, trust[1:])
    return Head(seen.base + heard.base, (*seen.branches, *heard.branches), ())


def run(
    folder: Path, eyes: Eyes, voice: Engine, out: Path, *, values: int = 1, seed: int = 1, plot: Path | None = None
) -> tuple[Outcome, TimedSpec]:
    """Fit, measure, and write the predictions of the head that sees and hears; and the head. Raises DataError,
    LabelError."""
    cache = out / "streams" / f"{eyes.model.manifest.identity}-{voice.manifest.identity}"
    whole = [streams_of(folder, split, eyes, voice, cache) for split in ("train", "valid")]
    train, valid = (first(parts, values) for parts in whole)
    trust = eyes.model.manifest.reliabilities, voice.manifest.reliabilities
    files = [each.person.file("truth.npz") for each in valid]
    figures: list[Figures] = []
    found_unread = found_embedded = None
    own = reading_of(train, trust[0]) if values == 1 else None
    if own is not None:
        found_unread = taught("V+A, linear, activations as they are", (train, valid), trust, files, figures)
        embedded = [first(parts, 2) for parts in whole]
        way = "V+A, linear, and what they say to the shipped score"
        found_embedded = taught(way, (embedded[0], embedded[1]), trust, files, figures)
        train, valid, trust = read_by(own, train), read_by(own, valid), (own.trust, trust[1])
    usual = usual_of(train)
    learnt, held = sessions(train, usual, stride(train)), sessions(valid, usual)
    labels = [each.label for each in held]
    head = fit(learnt, trust)
    answers = {
        "V": [head.score(each.taps[:1]) for each in held],
        "A": _alone(learnt, held, trust, 1),
        "V+A": [head.score(each.taps) for each in held],
    }
    figures += [judged(f"{way}, linear", said, labels) for way, said in answers.items()]
    predict(out / "predictions" / FOLDERS["valid"], valid, answers["V+A"])
    if (folder / FOLDERS["test"]).is_dir():
        asked = first(streams_of(folder, "test", eyes, voice, cache), values)
        asked = asked if own is None else read_by(own, asked)
        said = [head.score(each.taps) for each in sessions(asked, usual)]
        predict(out / "predictions" / FOLDERS["test"], asked, said)
    figures.append(judged("V, linear, never heard", _alone(learnt, held, trust, 0), labels))
    late = pictures_first(learnt, trust)
    figures.append(judged("V+A, linear, pictures first", [late.score(each.taps) for each in held], labels))
    for name in RIVALS:
        for way, rows_of in track(WAYS.items(), description=name):
            rival = fitted(
                name, [columns(each, rows_of) for each in train], [each.label for each in train], _RIVAL_STEPS, seed
            )
            figures.append(judged(f"{way}, {name}", [rival(columns(each, rows_of)) for each in valid], labels))
    found, found_told = recovery_of(head, held, files), None
    if found is not None:
        told = [told_faces(part) for part in train], [told_faces(part) for part in valid]
        certain = [1.0] * len(NAMES), trust[1]
        found_told = taught("V+A, linear, told what faces show", told, certain, files, figures)
    count = sum(len(label) for label in labels)
    outcome = Outcome(
        eyes.model.manifest.identity, found is not None, own is not None, count, tuple(figures), found,
        found_unread, found_embedded, found_told,
    )  # fmt: skip
    if plot is not None:
        person = valid[0].person
        drawn = f"session {person.session}, {person.role}" + (": SIMULATED" if found else "")
        of_one = {way: said[0] for way, said in answers.items()}
        draw(plot, drawn, labels[0], of_one, LABEL_HZ, None if found is None else sizes_of(found.causes))
    reading = None if own is None else ReadingSpec(rows(own.weight), row(own.bias))
    return outcome, spec_of(head, MEMORY, (usual[0], usual[1][:, 0]), reading)


def _alone(learnt: Sequence[Session], held: Sequence[Session], trust: Trust, branch: int) -> list[F64]:
    """Answers of a head that has one branch alone."""
    head = fit(only(learnt, (branch,)), [trust[branch]])
    return [head.score(each.taps) for each in only(held, (branch,))]


def taught(
    way: str, sides: tuple[Sequence[Participant], Sequence[Participant]], trust: Trust, files: Sequence[Path],
    figures: list[Figures],
) -> Recovery | None:  # fmt: skip
    """What a head finds again that sees and hears, learnt from the first and measured on the second; its figure is
    added to the others."""
    usual = usual_of(sides[0])
    learnt, held = sessions(sides[0], usual, stride(sides[0])), sessions(sides[1], usual)
    head = fit(learnt, trust)
    figures.append(judged(way, [head.score(each.taps) for each in held], [each.label for each in held]))
    return recovery_of(head, held, files)


def predict(out: Path, parts: Sequence[Participant], answers: Sequence[F64]) -> None:
    """OUT/SESSION/ROLE.engagement.prediction.csv, one value in [0, 1] a line."""
    for part, answer in zip(parts, answers, strict=True):
        person = part.person
        path = out / person.session / f"{person.role}.engagement.prediction.csv"
        with replaced(path) as partial:
            partial.write_text("".join(f"{value:.6f}\n" for value in answer.clip(0, 1)), encoding="utf-8")


def show(outcome: Outcome) -> None:
    """Print the figures as tables."""
    title = "engagement" + (", SIMULATED sessions: nothing follows from it for people" if outcome.simulated else "")
    table = Table(title=title)
    for column in ("from", "CCC over all frames", "mean CCC of a session"):
        table.add_column(column)
    for each in outcome.figures:
        table.add_row(each.way, f"{each.ccc:.3f}", f"{each.per_session:.3f}")
    Console().print(table)
    recoveries = (
        (outcome.found, "concepts as the corpus names them" if outcome.read else "as seen and heard"),
        (outcome.found_unread, "activations as they are"),
        (outcome.found_embedded, "activations and what they say to the shipped score"),
        (outcome.found_told, "told what faces show"),
    )
    for recovery, by in recoveries:
        if recovery is not None:
            Console().print(recovery_table(recovery, by))


def recovery_table(recovery: Recovery, by: str) -> Table:
    """Causes, true and found."""
    table = Table(
        title=f"contributions, {by}: rank correlation {recovery.rank_r:.2f} over the causes, {recovery.rank_all:.2f} "
        f"over all concepts (at most {recovery.rank_ceiling:.2f}: most contribute nothing and have no order); "
        f"wrong signs: {', '.join(recovery.wrong_signs) or 'none'}"
    )
    for column in ("concept", "true", "found", "r"):
        table.add_column(column)
    for cause in sorted(recovery.causes, key=lambda cause: (-cause.true, -cause.found)):
        table.add_row(cause.concept, f"{cause.true:.3f}", f"{cause.found:.3f}", f"{cause.r:.2f}")
    return table


def main(
    folder: Annotated[Path, typer.Argument(help="NoXi in its official layout, or simulated")],
    out: Annotated[Path, typer.Option(help="folder for predictions, figures and what was seen and heard")],
    model: Annotated[str, typer.Option(help="a folder under models/, or a path with a / in it")] = "agcm-live",
    voice: Annotated[str, typer.Option(help="the same, of a voice network")] = "agcm-voice",
    export: Annotated[
        Path | None, typer.Option(metavar="models/NAME", help="also write the head as a model that runs live")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="also draw one person and the contributions here")] = None,
    json: Annotated[Path | None, typer.Option(help="also write the figures here")] = None,
    values: Annotated[
        int,
        typer.Option(min=1, help="of a concept that is seen: 1 its activation, 2 what it says to the score too, …"),
    ] = 1,
    seed: Annotated[int, typer.Option(help="of the rivals")] = 1,
) -> None:
    """Engagement over time from faces and voices: V, A and V+A, and what linearity costs."""
    try:
        file = model_at(model)
        crop, _ = parts_of(file.manifest)
        eyes = Eyes(OnnxRuntimeEngine(load_model_file("centerface"), threads=1), OnnxRuntimeEngine(file), crop)
        ears = model_at(voice)
        outcome, timed = run(folder, eyes, OnnxRuntimeEngine(ears), out, values=values, seed=seed, plot=plot)
        if export is not None:
            write(joined(file, export, learnt_hearing(ears), timed), export)
            typer.echo(f"wrote {export}: run it with python run_live.py --model {export.name}")
        show(outcome)
        if json is not None:
            with replaced(json) as partial:
                partial.write_bytes(msgspec.json.format(msgspec.json.encode(outcome), indent=1) + b"\n")
    except (DataError, LabelError, ManifestError, EngineError, JoinError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
