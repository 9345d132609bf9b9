"""All sections of the report, in their order: what each one takes, and how much of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engines.base import Engine
from engines.choose import load as load_engine
from engines.spec import HeadSpec, ManifestError, ModelFile, load_model_file, model_at
from training.concepts import NAMES
from training.data import wacv2016
from training.data.augment import centre
from training.data.pictures import DataError
from training.data.samples import MARGIN_PX
from training.evaluate import parts_of
from training.explain import (
    deletion,
    fairness,
    faithful,
    interventions,
    leakage,
    occlusion,
    pointing,
    purity,
    quality,
    sums,
    worth,
)
from training.explain.answers import F32, F64, ask, outputs, shares
from training.explain.faithful import BoxFigures, Fit
from training.explain.material import Material, gather, read, some
from training.explain.renders import Placed, placed
from training.explain.report import Figures
from training.regions import regions
from training.synthetic import ict

RENDER_SEED = 4242
"""Neither that of the training renders nor that of the held-out ones: other people."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many pictures each part takes. corpus: of each held-out file. fitted: that the black box learns from.
    explained: by deletion and SHAP. hidden: for each concept. renders: for pointing. related: for leakage.
    """

    corpus: int
    fitted: int
    explained: int
    hidden: int
    renders: int
    related: int


FULL = Size(corpus=4000, fitted=4000, explained=500, hidden=60, renders=500, related=1200)
QUICK = Size(corpus=400, fitted=800, explained=120, hidden=12, renders=60, related=300)


@dataclass(frozen=True, slots=True)
class Corpora:
    """What the model says of all pictures."""

    expressions: Material
    fitting: Material
    engagement: Material
    renders: Material


@dataclass(frozen=True, slots=True)
class Place:
    """The geometry behind the landmark-only maps and the pointing; regions [K, h, w]."""

    regions: F32
    renders: tuple[Placed, ...]


@contextmanager
def opened(file: ModelFile, threads: int) -> Iterator[Engine]:
    """A model on ONNX Runtime in fp32, the reference of every figure but the first."""
    sample = {spec.name: np.zeros([max(side, 1) for side in spec.shape], np.float32) for spec in file.manifest.inputs}
    engine = load_engine("onnxruntime", file, "fp32", threads, sample)
    try:
        yield engine
    finally:
        engine.close()


def concept_model(name: str) -> ModelFile:
    """A model with the concepts of training.concepts. Raises ManifestError for another."""
    file = model_at(name)
    parts_of(file.manifest)
    if tuple(concept.name for concept in file.manifest.concepts) != NAMES:
        raise ManifestError(f"{name} has other concepts than training.concepts; export it again")
    return file


def gather_all(engine: Engine, data: Path, size: Size, seed: int) -> Corpora:
    """Read the prepared files and ask the model about them."""
    sources = (
        ("ferplus_valid", "FER+ valid", "the teacher", size.corpus),
        ("ferplus_train", "FER+ train", "the teacher", size.fitted),
        ("wacv2016", "WACV 2016", "the teacher", size.corpus),
        ("renders_valid", "renders", "exact labels", size.corpus),
    )
    found = []
    for name, shown, truth, limit in sources:
        samples = read(data, name, taught=truth == "the teacher")
        found.append(gather(engine, samples, shown, truth, some(len(samples), limit, seed)))
    return Corpora(*found)


def deletions(
    corpora: Corpora, heads: HeadSpec, size: Size, seed: int
) -> tuple[list[deletion.Curve], list[BoxFigures]]:
    """Section 2. The engagement black box learns from the pictures that are not explained."""
    chosen = some(len(corpora.engagement), min(size.explained, len(corpora.engagement) // 2), seed)
    rest = corpora.engagement.take(np.setdiff1d(np.arange(len(corpora.engagement)), chosen))
    fit = Fit(rest.answers.activation, rest.samples.score.astype(np.float64))
    curves, box = faithful.of_score(corpora.engagement.take(chosen), heads, fit, seed)
    fit = Fit(corpora.fitting.answers.activation, corpora.fitting.samples.votes.argmax(axis=1).astype(np.float64))
    explained = corpora.expressions.take(some(len(corpora.expressions), size.explained, seed))
    others, second = faithful.of_expression(explained, heads, fit, seed)
    return [*curves, *others], [box, second]


@dataclass(frozen=True, slots=True)
class Told:
    """What came of telling the model the truth; the last two fields are those of Figures."""

    curves: tuple[interventions.Intervention, ...]
    worth: tuple[worth.Worth, ...]
    live_difference: float


def interventions_of(engine: Engine, corpora: Corpora, heads: HeadSpec, seed: int) -> Told:
    """Section 3, on every photograph of which the teacher says something; expressions also on blurred ones."""
    photographs = interventions.with_truth(corpora.expressions)
    crops = interventions.blurred(photographs.crops)
    spoilt = replace(photographs, crops=crops, answers=ask(engine, crops, "blurred photographs"))
    found, worths = [], []
    for name, part in (("expression", photographs), ("expression, blurred pictures", spoilt)):
        found += interventions.measure(part, heads, expression_task(name, part, heads), seed)
        said = outputs(part.answers, heads)[:, 1:], part.answers.activation, told_to(part)
        worths.append(worth.of_classes(name, *said, part.samples.votes.argmax(axis=1)))
    people = interventions.with_truth(corpora.engagement)
    label = people.samples.score.astype(np.float64)
    task = interventions.Task(
        "engagement", "error", np.zeros(len(people), np.int64), lambda given: np.abs(given[:, 0] - label),
        people.samples.subjects,
    )  # fmt: skip
    found += interventions.measure(people, heads, task, seed)
    said = outputs(people.answers, heads)[:, :1], people.answers.activation, told_to(people)
    worths.append(worth.of_values("engagement", *said, label, people.samples.subjects))
    told = people.samples.concepts.astype(np.float64)
    return Told(tuple(found), tuple(worths), interventions.same_as_live(people.answers, heads, told, seed))


def told_to(part: Material) -> F64:
    """The truth of every concept [N, K], as far as it is known."""
    return worth.filled(part.samples.concepts.astype(np.float64), part.samples.weights > 0)


def expression_task(name: str, part: Material, heads: HeadSpec) -> interventions.Task:
    """Is the expression that of most votes? Ordered by the contributions to the one that is answered."""
    votes = part.samples.votes.argmax(axis=1)
    answered = 1 + outputs(part.answers, heads)[:, 1:].argmax(axis=1)
    return interventions.Task(
        name, "accuracy", answered, lambda given: (given[:, 1:].argmax(axis=1) == votes).astype(np.float64)
    )


def place_of(detector: Engine, path: Path, engine: Engine, count: int) -> Place | None:
    """The geometry, or None if the file is not there."""
    if not path.is_file():
        return None
    crop, _ = parts_of(engine.manifest)
    maps = next(spec for spec in engine.manifest.outputs if spec.name == "maps")
    found = placed(detector, path, crop.size_px, count, RENDER_SEED)
    return Place(regions(ict.load(path), maps.shape[-1]), tuple(found))


def maps_of(engine: Engine, parts: tuple[Material, ...], place: Place | None, size: Size,
            seed: int) -> tuple[list[occlusion.Hiding], list[pointing.Pointing]]:  # fmt: skip
    """Section 4 for one model that has answered for the parts, which are taken together."""
    crops = np.concatenate([part.crops for part in parts])
    answers = parts[0].answers.joined(*(part.answers for part in parts[1:]))
    known = None if place is None else place.regions
    trials = occlusion.try_all(engine, crops, answers, known, size.hidden, seed)
    hidden = list(occlusion.figures(engine.manifest.identity, trials, NAMES))
    if place is None:
        return hidden, []
    return hidden, list(pointing.measure(engine, place.renders, place.regions, NAMES))


def gather_again(engine: Engine, part: Material) -> Material:
    """The same pictures as another engine sees them, whose crops may have another side."""
    crop, _ = parts_of(engine.manifest)
    crops = np.stack([centre(stored, MARGIN_PX, crop.size_px) for stored in part.samples.crops])
    return replace(part, crops=crops, answers=ask(engine, crops, f"{part.name} ({engine.manifest.name})"))


def purity_of(corpora: Corpora, heads: HeadSpec, size: Size,
              seed: int) -> tuple[list[purity.Purity], list[leakage.Leakage]]:  # fmt: skip
    """Purity on renders, leakage on photographs, for the activation and for what the heads read."""
    renders, photographs = corpora.renders, interventions.with_truth(corpora.expressions)
    photographs = photographs.take(some(len(photographs), size.related, seed))
    present = renders.samples.concepts >= quality.PRESENT
    columns = purity.enough(present)
    known = np.flatnonzero((photographs.samples.weights > 0).all(axis=0))
    names = tuple(NAMES[k] for k in known)
    truth, classes = photographs.samples.concepts[:, known].astype(np.float64), photographs.samples.votes.argmax(axis=1)
    pure, leaks = [], []
    kinds: tuple[tuple[str, bool], ...] = (("activation", False), ("shares", True))
    for name, whole in kinds:
        if len(columns) > 1:
            pure.append(purity.measure(name, representation(renders, whole)[:, columns], present[:, columns], seed))
        values = representation(photographs, whole)[:, known]
        leaks.append(leakage.measure(name, values, truth, classes, names))
    return pure, leaks


def representation(material: Material, whole: bool) -> F64:
    """[N, K, 1], the activation, or with `whole` [N, K, O], what the heads read of each concept."""
    return shares(material.answers) if whole else material.answers.activation[:, :, None]


def groups_of(corpora: Corpora, detector: Engine, originals: Path, heads: HeadSpec) -> list[fairness.GroupRow]:
    """Section 7; face sizes where the original pictures are there."""
    sizes_px = None
    if originals.is_dir():
        pictures = wacv2016.load(originals).pictures
        if len(pictures) <= int(corpora.engagement.rows.max()):
            raise DataError(f"{originals} holds {len(pictures)} pictures, fewer than were prepared")
        chosen = [pictures[row] for row in corpora.engagement.rows]
        sizes_px = fairness.eye_distances_px(detector, chosen, len(chosen))
    rows = fairness.measure(corpora.expressions, heads, "accuracy")
    return [*rows, *fairness.measure(corpora.engagement, heads, "error", sizes_px)]


@dataclass(frozen=True, slots=True)
class Request:
    """What the command was asked for."""

    model: str
    ablations: tuple[str, ...]
    data: Path
    ict: Path
    originals: Path
    quick: bool
    seed: int
    threads: int


def explain(asked: Request) -> Figures:
    """Everything, in the order of the sections."""
    size = QUICK if asked.quick else FULL
    file = concept_model(asked.model)
    _, heads = parts_of(file.manifest)
    with opened(file, asked.threads) as engine, opened(load_model_file("centerface"), asked.threads) as detector:
        corpora = gather_all(engine, asked.data, size, asked.seed)
        everything = (corpora.expressions, corpora.engagement, corpora.renders)
        crops = np.concatenate([part.crops for part in everything])
        answers = everything[0].answers.joined(*(part.answers for part in everything[1:]))
        added = sums.measure_all(file, crops, (engine, answers), asked.threads)
        curves, boxes = deletions(corpora, heads, size, asked.seed)
        told = interventions_of(engine, corpora, heads, asked.seed)
        place = place_of(detector, asked.ict, engine, size.renders)
        held_out = (corpora.expressions, corpora.renders)
        hidden, pointed = maps_of(engine, held_out, place, size, asked.seed)
        for name in asked.ablations:
            with opened(concept_model(name), asked.threads) as other:
                answered = tuple(gather_again(other, part) for part in held_out)
                own_place = place_of(detector, asked.ict, other, size.renders)
                also = maps_of(other, answered, own_place, size, asked.seed)
            hidden, pointed = hidden + also[0], pointed + also[1]
        rated = [each for part in everything for each in quality.measure(part, NAMES) if part.name != "WACV 2016"]
        pure, leaks = purity_of(corpora, heads, size, asked.seed)
        groups = groups_of(corpora, detector, asked.originals, heads)
    return Figures(
        file.manifest.identity, engine.backend, asked.quick, asked.seed,
        {part.name: len(part) for part in everything}, added, tuple(curves), tuple(boxes), told.curves,
        told.live_difference, told.worth, tuple(hidden), tuple(pointed), tuple(rated), tuple(pure), tuple(leaks),
        tuple(groups),
    )  # fmt: skip
