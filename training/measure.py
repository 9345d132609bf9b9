"""Figures of a model on any data set of the table that has pictures: one split, streamed, through the live path.

Expressions: the model answers among those of its classes that the data set has; a class that it does not know (the
"other" of Aff-Wild2) is always answered wrongly and counts. Levels: the score of a clip is the mean over its frames
with a face; it becomes a level by thresholds halfway between the levels, for which no data are needed, or by given
ones. Continuous engagement: scores of the sampled frames are joined by straight lines and compared with the label at
every labelled moment; one concordance over all recordings and roles, as MultiMediate scores it, and one a person as a
diagnostic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
from rich.progress import track

from engines.base import Engine
from engines.spec import CropSpec, HeadSpec
from training.data.corpus import Continuous, Corpus, Expressions, Levels, check_there
from training.data.cut import Cutter, cut_corpus, rule_of
from training.metrics import ccc, classes_of, pearson
from training.reports import GroupFigures, Report, classification, ordinal

F64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
_BATCH = 16


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """One row a crop: its item, its time in a video, whether a face was found, score and expression shares [N, E]."""

    place: Ints
    time_s: F64
    found: Bools
    score: F64
    expressions: F64


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A detector, an engine, what its manifest says, and the way to scores [N] and expression shares [N, E]."""

    detector: Engine
    engine: Engine
    crop: CropSpec
    heads: HeadSpec
    answer: Callable[[npt.NDArray[np.uint8]], tuple[F64, F64]]


def measure(model: Model, corpus: Corpus, cuts: tuple[float, ...] = ()) -> Report:
    """The report of a split. cuts: thresholds between levels, in units of the score; none: halfway between them.

    Raises DataError naming an item that is missing or cannot be read.
    """
    check_there(corpus)
    answers = _answers(model, corpus)
    seen = np.isin(np.arange(len(corpus.items)), answers.place[answers.found])
    task = corpus.task
    if isinstance(task, Expressions):
        protocol, groups = _expressions(task, corpus, answers, model.heads.expressions)
    elif isinstance(task, Levels):
        protocol, groups = _levels(task, corpus, answers, seen, cuts)
    else:
        protocol, groups = _continuous(task, corpus, answers)
    if corpus.rate_hz > 0:
        protocol += f"; {corpus.rate_hz:g} frames of each second"
    counts = len(corpus.items), int((~seen).sum())
    return Report(
        corpus.name, corpus.split, model.engine.manifest.identity, model.engine.backend, protocol, *counts, groups
    )


def _answers(model: Model, corpus: Corpus) -> Answers:
    cutter = Cutter(model.detector, rule_of(model.detector, corpus, model.crop.size_px, 0))
    cuts = cut_corpus(cutter, corpus, track(range(len(corpus.items)), f"{corpus.name} {corpus.split}"))
    parts: list[Answers] = []
    while batch := list(islice(cuts, _BATCH)):
        score, shares = model.answer(np.stack([cut.crop for cut in batch]))
        places, times = np.array([cut.place for cut in batch]), np.array([cut.time_s for cut in batch])
        parts.append(Answers(places, times, np.array([cut.found for cut in batch]), score, shares))
    return Answers(*(np.concatenate([getattr(part, name) for part in parts]) for name in Answers.__slots__))


def _expressions(
    task: Expressions, corpus: Corpus, answers: Answers, names: Sequence[str]
) -> tuple[str, tuple[GroupFigures, ...]]:
    common = [(place, names.index(name)) for place, name in enumerate(task.classes) if name in names]
    theirs, ours = (np.array(each) for each in zip(*common, strict=True))
    truth = np.array([corpus.items[place].label for place in answers.place])
    answer = theirs[answers.expressions[:, ours].argmax(1)]
    unknown = [name for name in task.classes if name not in names]
    rows = {"all": np.ones(len(truth), bool), "face found": answers.found}
    if unknown:
        rows[f"without {', '.join(unknown)}"] = np.isin(truth, theirs)
    protocol = f"{len(task.classes)} classes, single pass, answered among {len(theirs)} of them"
    groups = (classification(name, truth[on], answer[on], task.classes) for name, on in rows.items() if on.any())
    return protocol, tuple(groups)


def _levels(
    task: Levels, corpus: Corpus, answers: Answers, seen: Bools, cuts: tuple[float, ...]
) -> tuple[str, tuple[GroupFigures, ...]]:
    truth = np.array([item.label for item in corpus.items])
    usable = answers.found | ~seen[answers.place]
    weight = np.bincount(answers.place[usable], minlength=len(truth))
    score = np.bincount(answers.place[usable], answers.score[usable], len(truth)) / np.maximum(weight, 1)
    if seen.any():
        score[~seen] = score[seen].mean()
    label = np.array([task.score(level) for level in truth])
    answer = classes_of(score, cuts or task.cuts)
    rule = "given thresholds" if cuts else "thresholds halfway between the levels, fitted to nothing"
    protocol = f"{len(task.names)} levels of the mean score by {rule}; without a face: the mean of the others"
    rows = {"all": np.ones(len(truth), bool), "face found": seen}
    groups = (
        ordinal(name, score[on], label[on], truth[on], answer[on], task.names) for name, on in rows.items() if on.any()
    )
    return protocol, tuple(groups)


def _continuous(task: Continuous, corpus: Corpus, answers: Answers) -> tuple[str, tuple[GroupFigures, ...]]:
    pairs: list[tuple[str, F64, F64]] = []
    mean = float(answers.score[answers.found].mean()) if answers.found.any() else 0.5
    for place, item in enumerate(corpus.items):
        if item.track is None:
            continue
        on = np.isfinite(item.track)
        moments_s = np.nonzero(on)[0] / task.label_hz
        mine = (answers.place == place) & answers.found
        joined = np.full(len(moments_s), mean)
        if mine.any():
            joined = np.interp(moments_s, answers.time_s[mine], answers.score[mine])
        pairs.append((item.name, joined, item.track[on].astype(np.float64)))
    score, truth = (np.concatenate(each) for each in ([pair[1] for pair in pairs], [pair[2] for pair in pairs]))
    groups = [_agreement("all", score, truth), *(_agreement(*pair) for pair in pairs)]
    protocol = f"one concordance over all frames at {task.label_hz:g} Hz, then one a person (a diagnostic)"
    return protocol, tuple(groups)


def _agreement(name: str, score: F64, truth: F64) -> GroupFigures:
    """Neither classes nor levels: only how the score and the label go together."""
    return GroupFigures(name, len(truth), None, None, {}, r=pearson(score, truth), ccc=ccc(score, truth))
