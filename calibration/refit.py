"""New weights for the score from recorded sessions that somebody labelled: `python -m calibration.refit`.

What a concept contributes becomes linear in its activation, in what it contributed before, and, with --taps and
--habit, in the past of both; so do voice concepts, by their activation. Everything still adds up, and the networks stay
as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from typer.exceptions import TyperException

from calibration.head import Session, fit, spec_of
from calibration.joined import JoinError, joined, write
from calibration.labelled import LabelError, Labelled, read
from engines.fusion import HearingSpec, MemorySpec, TimedSpec
from engines.spec import ManifestError, load_voice_file, model_at
from engines.timed import FORGET_S, advance, start_of

F64 = npt.NDArray[np.float64]
MISTAKE = 2
_LEAST_LABELS = 100
_BLOCKS = 5

HELP = """Fit the score to your own labels: which concepts count here, and how much.

\b
Each SESSION=LABELS is a table of a recorded session and a CSV file with the columns t_s (seconds since its first
picture; of a file, its own time) and engagement (0 to 1). A label holds until the next one, an empty one ends it.

\b
  python run_live.py --camera 0 --record monday
  python -m pipeline.export monday --to parquet
  python -m calibration.refit monday/results.parquet=monday.csv --out models/our-room
  python run_live.py --camera 0 --model our-room

\b
Weights are chosen by what is left out: one session after another, or fifths of a single one. Record with the model that
--model names. Exit codes: 0 done, 2 a mistake in the arguments or files
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


def taps_of(
    values: F64, t_ns: npt.NDArray[np.int64], usual: F64, memory: MemorySpec,
    there: npt.NDArray[np.bool_] | None = None,
) -> F64:  # fmt: skip
    """Values [T, ...] of a person -> with their past [T, ..., 1 + J], as engines.timed remembers it live. there [T]:
    where there is no value, it is as usual and its past is forgotten; None for everywhere."""
    start = start_of(memory, usual)
    past, found = start, np.empty((*values.shape, 1 + memory.size))
    for i, now in enumerate(values):
        elapsed_s = (t_ns[i] - t_ns[i - 1]) / 1e9 if i else 0.0
        if not 0 < elapsed_s <= FORGET_S:
            past, elapsed_s = start, 0.0
        if there is not None and not there[i]:
            past, now = start, usual
        found[i] = advance(memory, past, now, elapsed_s)
        past = found[i][..., 1:]
    return found


def refitted(
    parts: Sequence[Labelled], means: F64, trust: tuple[Sequence[float], Sequence[float]], memory: MemorySpec
) -> tuple[TimedSpec, str]:
    """The head as a manifest holds it, and a line for people. means: [K], of what concepts say to the score. trust:
    reliabilities of what is seen and heard. Raises LabelError with too few labels."""
    count = sum(int(np.isfinite(part.label).sum()) for part in parts)
    if count < _LEAST_LABELS:
        raise LabelError(f"{count} labelled pictures; {_LEAST_LABELS} are the least")
    values = [np.stack([part.activation, part.share + means], axis=2) for part in parts]
    usual = np.concatenate(values).mean(0)
    sessions = [
        Session((taps_of(x, part.t_ns, usual, memory),), part.label) for x, part in zip(values, parts, strict=True)
    ]
    everything = np.concatenate([part.heard for part in parts])
    audible = np.isfinite(everything).all(1)
    labelled = np.isfinite(np.concatenate([part.label for part in parts]))
    hears = everything.shape[1] > 0 and bool((audible & labelled).any())
    usual_heard = everything[audible].mean(0) if hears else np.zeros(0)
    if hears:
        sessions = [_with_sound(own, part, usual_heard, memory) for own, part in zip(sessions, parts, strict=True)]
    head = fit(sessions if len(sessions) > 1 else _blocks(sessions[0]), trust if hears else trust[:1])
    said = [
        f"{share:.0%} {way}" for share, way in zip(head.explained, ("from what is seen", "with sound"), strict=False)
    ]
    told = f"foretells of the variance of labels that were left out: {', '.join(said)}"
    return spec_of(head, memory, (usual, usual_heard)), told


def _with_sound(session: Session, part: Labelled, usual: F64, memory: MemorySpec) -> Session:
    """The session with what was heard beside it; where nothing was, it is as usual."""
    audible = np.asarray(np.isfinite(part.heard).all(1), np.bool_)
    heard = taps_of(part.heard[..., None], part.t_ns, usual[:, None], memory, audible)
    return Session((*session.taps, heard), session.label, audible)


def _blocks(session: Session) -> list[Session]:
    """A single session in stretches of time, of which one after another can be left out."""
    known = np.flatnonzero(np.isfinite(session.label))
    return [
        Session(
            tuple(taps[part] for taps in session.taps), session.label[part],
            None if session.audible is None else session.audible[part],
        )
        for part in np.array_split(known, _BLOCKS)
    ]  # fmt: skip


@app.command(help=HELP)
def main(
    sessions: Annotated[list[str], typer.Argument(metavar="SESSION=LABELS", help="a table and its labels")],
    out: Annotated[Path, typer.Option(metavar="models/NAME", help="model folder to write; its name is the model's")],
    model: Annotated[str, typer.Option(metavar="NAME", help="what they were recorded with")] = "agcm-av-live",
    taps: Annotated[int, typer.Option(min=0, max=8, help="how many steps of the past count; 0: none")] = 0,
    constant_s: Annotated[float, typer.Option("--constant", min=0.01, metavar="S", help="length of a step")] = 0.5,
    habit_s: Annotated[
        float, typer.Option("--habit", min=0.0, metavar="S", help="how slowly a person's habit is learnt; 0: not")
    ] = 0.0,
) -> None:
    file = model_at(model)
    heads, voice = file.manifest.heads, load_voice_file(file)
    if heads is None or file.manifest.timed is not None:
        raise JoinError(f"model {model!r} is no concept model whose score is of one picture: begin with such a one")
    names = [concept.name for concept in file.manifest.concepts]
    voices = [] if voice is None else [concept.name for concept in voice.manifest.concepts]
    parts = [read(*_pair(text), names, voices, file.manifest.identity) for text in sessions]
    means = np.array([row[0] for row in heads.mean])
    trust = file.manifest.reliabilities, () if voice is None else voice.manifest.reliabilities
    timed, said = refitted(parts, means, trust, MemorySpec(taps, constant_s, habit_s))
    heard = file.manifest.hearing
    hearing = None if heard is None else HearingSpec(heard.model, heard.sha256, heard.concepts)
    write(joined(file, out, hearing, timed), out)
    print(f"wrote {out}, {said}")


def _pair(text: str) -> tuple[Path, Path]:
    table, equals, labels = text.partition("=")
    if not (table and equals and labels):
        raise LabelError(f"{text!r}: give a table and its labels, for example monday/results.parquet=monday.csv")
    return Path(table), Path(labels)


if __name__ == "__main__":
    try:
        app(standalone_mode=False)
    except (LabelError, JoinError, ManifestError, TyperException) as mistake:
        print(mistake.format_message() if isinstance(mistake, TyperException) else mistake, file=sys.stderr)
        sys.exit(MISTAKE)
