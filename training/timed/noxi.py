"""NoXi / MultiMediate end to end: `python -m training.timed.noxi FOLDER --out DIR`.

FOLDER is NoXi's official layout (or what training.synthetic.noxi simulates in it). Every participant is seen and heard
once; timed heads are then fitted on the training sessions from what is seen (V), heard (A) and both (V+A), and measured
on the validation sessions by the challenge's figure: one CCC over all frames of all sessions and roles together, with
variances of the population. CCC per session is a diagnostic. One head for everything, trained with modality dropout,
stands beside the heads for each set of senses. Where the corpus has labels of concepts (NoXi's OpenFace 2 streams,
the truth of simulated sessions) the heads read concepts as these labels name them (training.timed.reading). A GRU and a
TCN on the same streams say what it costs that the head is linear. Predictions are written one value a line, as the
challenge takes them.

Where `truth.npz` files are beside the videos (simulation), what the head says a concept contributed is compared with
what it did contribute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from calibration.joined import JoinError, joined, write
from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.base import Engine, EngineError
from engines.fusion import MemorySpec, TimedSpec
from engines.spec import ManifestError, load_model_file, model_at
from training.concepts import NAMES
from training.data.noxi import LABEL_HZ, Person, people, read_track
from training.data.pictures import DataError
from training.data.writing import replaced
from training.evaluate import parts_of
from training.metrics import ccc
from training.timed.causes import Recovery, recovery_of, shown_by, sizes_of
from training.timed.export import hearing_spec, timed_spec
from training.timed.head import Session, fit
from training.timed.memory import run as remember
from training.timed.plots import draw
from training.timed.reading import Reading, labels_of
from training.timed.reading import fit as fit_reading
from training.timed.rivals import RIVALS, fitted
from training.timed.streams import Eyes, Streams, hear, load, save, see

F64 = npt.NDArray[np.float64]
Trust = tuple[Sequence[float], Sequence[float]]
WAYS: Mapping[str, tuple[int, ...]] = {"V": (0,), "A": (1,), "V+A": (0, 1)}
MEMORY = MemorySpec(taps=5, constant_s=0.5, habit_s=20.0)
MOST_ROWS = 250_000
"""Frames that heads are fitted to; of more, evenly many are left out. NoXi has millions, and neighbours are alike."""
_RIVAL_STEPS = 600
_THREADS = 2


class Figures(msgspec.Struct, frozen=True):
    """ccc: the challenge's, over all validation frames; per_session: the mean of each participant's own."""

    way: str
    ccc: float
    per_session: float


class Outcome(msgspec.Struct, frozen=True):
    """read: concepts as the corpus' labels name them were fitted on the training sessions. simulated: the sessions were
    made by training.synthetic.noxi. Only then is known what was found again: by the head that sees and hears, by one
    that takes activations as the network gives them, and by one that is told the concepts of faces as they were shown,
    so that what is lost between them is lost in seeing."""

    model: str
    simulated: bool
    read: bool
    frames: int
    figures: tuple[Figures, ...]
    found: Recovery | None = None
    found_unread: Recovery | None = None
    found_told: Recovery | None = None


@dataclass(frozen=True, slots=True)
class Participant:
    """Somebody with what was seen and heard of them, and the labels of these frames [T]."""

    person: Person
    streams: Streams
    label: F64


def recorded(person: Person) -> Path:
    """The file with a person's voice: NAME.audio.wav, or else the video's own sound."""
    sound = person.file("audio.wav")
    return sound if sound.is_file() else person.file("video.mp4")


def streams_of(folder: Path, split: str, eyes: Eyes, voice: Engine, cache: Path) -> list[Participant]:
    """Everybody in a split. What was seen and heard before is read from `cache`. Raises DataError naming a file."""

    def look(person: Person) -> Participant:
        label = read_track(person.file("engagement.annotation.csv")).astype(np.float64)
        kept = cache / split / person.session / f"{person.role}.npz"
        if not kept.is_file():
            seen, faces = see(person.file("video.mp4"), eyes, LABEL_HZ)
            save(kept, Streams(seen, faces, hear(recorded(person), voice, len(seen), LABEL_HZ)))
        streams = load(kept)
        count = min(len(label), len(streams.found))
        cut = Streams(streams.seen[:count], streams.found[:count], streams.heard[:count])
        return Participant(person, cut, label[:count])

    listed = people(folder, split)
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(track(pool.map(look, listed), description=f"NoXi {split}", total=len(listed)))


def first(parts: Sequence[Participant], values: int) -> list[Participant]:
    """The same with the first values of what is seen of a concept: its activation, what it says to the score, ..."""
    return [replace(each, streams=replace(each.streams, seen=each.streams.seen[:, :, :values])) for each in parts]


def stride(parts: Sequence[Participant]) -> int:
    """Of how many frames one is enough to learn from."""
    return -(-sum(len(part.label) for part in parts) // MOST_ROWS)


def sessions(parts: Sequence[Participant], usual: tuple[F64, F64], every: int = 1) -> list[Session]:
    """Taps of everybody, of one frame in `every`; before its start a session was as usual."""
    found = []
    for part in parts:
        taps = []
        for values, mean in zip((part.streams.seen, part.streams.heard[..., None]), usual, strict=True):
            flat = remember(MEMORY, LABEL_HZ, values.reshape(len(values), -1), mean.ravel())
            taps.append(flat[::every].reshape(-1, *values.shape[1:], flat.shape[-1]))
        found.append(Session(tuple(taps), part.label[::every]))
    return found


def usual_of(parts: Sequence[Participant]) -> tuple[F64, F64]:
    """Means of what is seen [K, 1 + O] and heard [V, 1]."""
    seen = np.concatenate([part.streams.seen for part in parts]).mean(0)
    heard = np.concatenate([part.streams.heard for part in parts]).mean(0)
    return seen, heard[:, None]


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


def deaf(parts: Sequence[Session], usual: F64) -> list[Session]:
    """The sessions with nothing to hear: taps [V, 1, 1 + J] as they are on average instead."""
    return [Session((each.taps[0], np.broadcast_to(usual, each.taps[1].shape)), each.label) for each in parts]


def dropped(parts: Sequence[Session], usual: F64) -> list[Session]:
    """Modality dropout: every session once with its sound and once without."""
    return [
        Session(
            tuple(np.concatenate(pair) for pair in zip(one.taps, other.taps, strict=True)),
            np.concatenate([one.label, other.label]),
        )
        for one, other in zip(parts, deaf(parts, usual), strict=True)
    ]


def reading_of(parts: Sequence[Participant], trust: Sequence[float]) -> Reading | None:
    """Fitted to the labels of concepts; None where somebody has none. Raises DataError naming a file."""
    labels = [labels_of(part.person, len(part.label)) for part in parts]
    known = [each for each in labels if each is not None]
    if len(known) < len(parts):
        return None
    every = stride(parts)
    seen = [each.streams.seen[::every, :, 0] for each in parts]
    return fit_reading(seen, [each[::every] for each in known], trust)


def read_by(own: Reading, parts: Sequence[Participant]) -> list[Participant]:
    """The same with readings instead of activations."""
    return [
        replace(each, streams=replace(each.streams, seen=own.of(each.streams.seen[:, :, 0])[..., None]))
        for each in parts
    ]


def told_faces(part: Participant) -> Participant:
    """Somebody simulated, with the concepts that their face truly showed."""
    shown = shown_by(part.person.file("truth.npz"), len(part.label))[..., None]
    return replace(part, streams=replace(part.streams, seen=shown))


def columns(part: Participant, rows: tuple[int, ...]) -> F64:
    """What a rival reads of somebody [T, D]."""
    sides = (part.streams.seen.reshape(len(part.label), -1), part.streams.heard)
    return np.concatenate([sides[i] for i in rows], axis=1)


def run(
    folder: Path, eyes: Eyes, voice: Engine, out: Path, *, values: int = 1, seed: int = 1, plot: Path | None = None
) -> tuple[Outcome, TimedSpec]:
    """Fit, measure, and write the predictions of the head that sees and hears; and the heads. Raises DataError."""
    cache = out / "streams" / f"{eyes.model.manifest.identity}-{voice.manifest.identity}"
    train, valid = (first(streams_of(folder, split, eyes, voice, cache), values) for split in ("train", "valid"))
    trust = eyes.model.manifest.reliabilities, voice.manifest.reliabilities
    files = [each.person.file("truth.npz") for each in valid]
    figures: list[Figures] = []
    found_unread = None
    own = reading_of(train, trust[0]) if values == 1 else None
    if own is not None:
        figure, found_unread = taught("V+A, linear, activations as they are", (train, valid), trust, files)
        figures.append(figure)
        train, valid, trust = read_by(own, train), read_by(own, valid), (own.trust, trust[1])
    usual = usual_of(train)
    learnt, held = sessions(train, usual, stride(train)), sessions(valid, usual)
    labels = [each.label for each in held]
    heads, drawn_by = {}, {}
    for way, rows in WAYS.items():
        heads[way] = fit(only(learnt, rows), [trust[i] for i in rows])
        answers = [heads[way].score(each.taps) for each in only(held, rows)]
        figures.append(judged(f"{way}, linear", answers, labels))
        drawn_by[way] = answers[0]
    predict(out, valid, answers)
    mean = np.concatenate([each.taps[1] for each in learnt]).mean(0)
    one = fit(dropped(learnt, mean), trust)
    for way, parts in (("V", deaf(held, mean)), ("V+A", held)):
        figures.append(judged(f"{way}, one linear head, dropout", [one.score(each.taps) for each in parts], labels))
    for name in RIVALS:
        for way, rows in track(WAYS.items(), description=name):
            rival = fitted(
                name, [columns(each, rows) for each in train], [each.label for each in train], _RIVAL_STEPS, seed
            )
            figures.append(judged(f"{way}, {name}", [rival(columns(each, rows)) for each in valid], labels))
    found, found_told = recovery_of(heads["V+A"], held, files), None
    if found is not None:
        told = [told_faces(part) for part in train], [told_faces(part) for part in valid]
        figure, found_told = taught("V+A, linear, told what faces show", told, ([1.0] * len(NAMES), trust[1]), files)
        figures.append(figure)
    count = sum(len(label) for label in labels)
    outcome = Outcome(
        eyes.model.manifest.identity, found is not None, own is not None, count, tuple(figures), found,
        found_unread, found_told,
    )  # fmt: skip
    if plot is not None:
        person = valid[0].person
        drawn = f"session {person.session}, {person.role}" + (": SIMULATED" if found else "")
        draw(plot, drawn, labels[0], drawn_by, LABEL_HZ, None if found is None else sizes_of(found.causes))
    return outcome, timed_spec(MEMORY, usual, heads["V"], heads["V+A"], own)


def taught(
    way: str, sides: tuple[Sequence[Participant], Sequence[Participant]], trust: Trust, files: Sequence[Path]
) -> tuple[Figures, Recovery | None]:
    """A head that sees and hears, learnt from the first and measured on the second."""
    usual = usual_of(sides[0])
    learnt, held = sessions(sides[0], usual, stride(sides[0])), sessions(sides[1], usual)
    head = fit(learnt, trust)
    figures = judged(way, [head.score(each.taps) for each in held], [each.label for each in held])
    return figures, recovery_of(head, held, files)


def predict(out: Path, parts: Sequence[Participant], answers: Sequence[F64]) -> None:
    """OUT/predictions/val/SESSION/ROLE.engagement.prediction.csv, one value in [0, 1] a line."""
    for part, answer in zip(parts, answers, strict=True):
        person = part.person
        path = out / "predictions" / "val" / person.session / f"{person.role}.engagement.prediction.csv"
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
        Path | None, typer.Option(metavar="models/NAME", help="also write the heads as a model that runs live")
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
            write(joined(file, export, hearing_spec(ears), timed), export)
            typer.echo(f"wrote {export}: run it with python run_live.py --model {export.name}")
        show(outcome)
        if json is not None:
            with replaced(json) as partial:
                partial.write_bytes(msgspec.json.format(msgspec.json.encode(outcome), indent=1) + b"\n")
    except (DataError, ManifestError, EngineError, JoinError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
