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

from calibration.joined import JoinError, joined, write
from calibration.labelled import LabelError, Labelled, read
from calibration.ridge import Ridge, ridge
from engines.fusion import BranchSpec, HearingSpec, MemorySpec, SensesSpec, TimedSpec
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


class Fitted:
    """A head for one set of senses, and how well it foretells what was left out."""

    def __init__(self, base: float, found: Ridge, shapes: Sequence[tuple[int, int, int]], spread: float) -> None:
        self.base, self.explained = base, 1.0 - found.error / max(spread, 1e-12)
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
        self.weight, self.mean = (
            [part.reshape(shape) for part, shape in zip(np.split(side, ends), shapes, strict=True)]
            for side in (found.weight, found.mean)
        )


def taps_of(values: F64, t_ns: npt.NDArray[np.int64], usual: F64, memory: MemorySpec) -> F64:
    """Values [T, ...] of a person -> with their past [T, ..., 1 + J], as engines.timed remembers it live."""
    start = start_of(memory, usual)
    past, found = start, np.empty((*values.shape, 1 + memory.size))
    for i, now in enumerate(values):
        elapsed_s = (t_ns[i] - t_ns[i - 1]) / 1e9 if i else 0.0
        if not 0 < elapsed_s <= FORGET_S:
            past, elapsed_s = start, 0.0
        found[i] = advance(memory, past, now, elapsed_s)
        past = found[i][..., 1:]
    return found


def fit(sessions: Sequence[tuple[Sequence[F64], F64]], trust: Sequence[float]) -> Fitted:
    """Of sessions: taps of each branch and labels, all known. trust: reliability of each concept of all branches.
    Raises LabelError with too few."""
    count = sum(len(label) for _, label in sessions)
    if count < _LEAST_LABELS:
        raise LabelError(f"{count} labelled pictures with all senses; {_LEAST_LABELS} are the least")
    base = float(np.concatenate([label for _, label in sessions]).mean())
    rows = [np.concatenate([each.reshape(len(label), -1) for each in taps], axis=1) for taps, label in sessions]
    labels = [label - base for _, label in sessions]
    if len(rows) == 1:
        rows, labels = np.array_split(rows[0], _BLOCKS), np.array_split(labels[0], _BLOCKS)
    spread = float(np.mean(np.concatenate(labels) ** 2))
    shapes = [(taps.shape[1], taps.shape[2], taps.shape[3]) for taps in sessions[0][0]]
    sizes = [values * past for count, values, past in shapes for _ in range(count)]
    return Fitted(base, ridge(rows, labels, sizes, trust), shapes, spread)


def refitted(
    parts: Sequence[Labelled], means: F64, trust: tuple[Sequence[float], Sequence[float]], memory: MemorySpec
) -> tuple[TimedSpec, str]:
    """The heads as a manifest holds them, and a line for people. means: [K], of what concepts say to the score. trust:
    reliabilities of what is seen and heard."""
    values = [np.stack([part.activation, part.share + means], axis=2) for part in parts]
    heard = [part.heard for part in parts]
    usual = np.concatenate(values).mean(0)
    everything = np.concatenate(heard)
    hears = everything.shape[1] > 0 and bool(np.isfinite(everything).all(1).any())
    usual_heard = np.nanmean(everything, axis=0) if hears else np.zeros(everything.shape[1])
    seen_taps = [taps_of(x, part.t_ns, usual, memory) for x, part in zip(values, parts, strict=True)]
    known = [~np.isnan(part.label) for part in parts]
    alone = fit(
        [((t[rows],), part.label[rows]) for t, part, rows in zip(seen_taps, parts, known, strict=True) if rows.any()],
        trust[0],
    )
    said = f"from what is seen: {alone.explained:.0%} of the variance of labels that were left out"
    both = None
    if hears:
        both_parts = []
        for seen, sound, part, rows in zip(seen_taps, heard, parts, known, strict=True):
            there = np.asarray(np.isfinite(sound).all(1), np.bool_)
            use = rows & there
            if not use.any():
                continue
            filled = np.where(there[:, None], sound, usual_heard)[..., None]
            late = taps_of(filled, part.t_ns, usual_heard[:, None], memory)
            both_parts.append(((seen[use], late[use]), part.label[use]))
        both = fit(both_parts, [*trust[0], *trust[1]])
        said += f"; seen and heard: {both.explained:.0%}"
    spec = TimedSpec(
        memory, tuple(map(tuple, usual.tolist())), tuple(usual_heard.tolist()) if hears else (),
        _senses(alone), None if both is None else _senses(both),
    )  # fmt: skip
    return spec, said


def _senses(head: Fitted) -> SensesSpec:
    branches = [BranchSpec(_nested(w), _nested(m)) for w, m in zip(head.weight, head.mean, strict=True)]
    return SensesSpec(head.base, *branches)


def _nested(values: F64) -> tuple[tuple[tuple[float, ...], ...], ...]:
    return tuple(tuple(tuple(row) for row in part) for part in values.tolist())


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
