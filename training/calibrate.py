"""How far a model's answers are off, written into its manifest: `python -m training.calibrate EXPERIMENT.toml ...`.

Engagement: the interval around the score in which the label lies at a stated rate, for people the model has not seen
(training/conformal.py). Its figures are nested: for each person, heads, ridge strengths, spread and quantile come from
the others alone, whose answers in turn come from heads that did not see them. Three intervals are compared, and the
locally weighted one is written only if it is clearly narrower than the constant one at the same rate.

Expressions: the temperature of the softmax (training/temperature.py). By default the target is the annotators' votes:
"happiness 0.8" then says that eight of ten annotators would call it so. With --target majority it says how likely it
is that most of them would.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
import torch
import typer
from rich.progress import track

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.base import EngineError
from engines.concept import ConceptReadout, read
from engines.preprocess import to_tensor
from engines.spec import MODELS_DIR, HeadSpec, IntervalSpec, ManifestError, ModelFile, SpreadSpec, load_model_file
from training import conformal, temperature
from training.calibration_report import CalibrationReport, IntervalReport, TargetReport, coverage, show, write
from training.conformal import Answers, Interval, Method, Nested
from training.data.augment import centre
from training.data.pictures import DataError
from training.data.samples import MARGIN_PX, Samples
from training.data.samples import load as load_samples
from training.data.writing import replaced
from training.engagement import (
    FACES,
    FACES_HELP,
    Head,
    People,
    Pictures,
    Unseen,
    among,
    choose,
    classes,
    embed,
    fit,
    people,
    trained,
    unseen,
)
from training.evaluate import ENGAGEMENT_CLASSES, parts_of
from training.experiment import ExperimentError
from training.experiment import load as load_experiment
from training.metrics import classes_of
from training.temperature import Target, target_of

F64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

METHODS: tuple[Method, ...] = ("constant", "local", "guaranteed")
MARGIN = 0.98
"""The locally weighted interval must be narrower than this share of the constant one: what is simple wins."""

TOLERANCE = 1e-3
_BATCH = 64
_PROTOCOL = (
    "leave-one-subject-out, nested: everything that judges a person comes from the others. Labels are 0, .5 or 1. "
    "at the rate: mean half-width if all were scaled to cover at the wanted rate"
)


class CalibrationError(ValueError):
    """The model, the weights and the data do not belong together; nothing was written."""


def shares(head: Head, embeddings: F64, concepts: int) -> F64:
    """W_k . c_k of every picture [N, K] from embeddings [N, K m]."""
    split = (concepts, -1)
    found = np.einsum("nkm,km->nk", embeddings.reshape(len(embeddings), *split), head.weight.reshape(split))
    return np.asarray(found, dtype=np.float64)


def answers_to(pictures: Pictures, activation: F64, each: Unseen) -> Answers:
    """The answers of one person's head to that person's pictures; activation [N, K]."""
    rows = pictures.subjects == each.subject
    embeddings, seen = pictures.plain[rows], activation[rows]
    error = np.abs(pictures.score[rows] - each.head(embeddings))
    return Answers(error, seen, shares(each.head, embeddings, seen.shape[1]), pictures.subjects[rows])


def answers(pictures: Pictures, activation: F64, known: People, names: Iterable[int]) -> Answers:
    """Answers to the named people, each by a head from all the others in `pictures`."""
    return conformal.join([answers_to(pictures, activation, each) for each in unseen(pictures, known, names)])


def nested(pictures: Pictures, activation: F64, rate: float) -> Nested:
    """Intervals for every person from the others alone; see the top of this module. activation [N, K]."""
    known, names = people(pictures), np.unique(pictures.subjects).tolist()
    if len(names) <= conformal.fewest(rate):
        needed = f"to test an interval that covers {rate:.0%} on people left out needs"
        raise DataError(f"{needed} pictures of {conformal.fewest(rate) + 1} people or more, not {len(names)}")
    own: list[Answers] = []
    score, answered = np.zeros(len(pictures.score)), np.zeros(len(pictures.score), np.int64)
    widths: dict[Method, list[F64]] = {method: [] for method in METHODS}
    order: list[npt.NDArray[np.intp]] = []
    for each in unseen(pictures, known, track(names, description="people left out")):
        rows = pictures.subjects == each.subject
        others = answers(
            pictures.take(~rows), activation[~rows], known, [name for name in names if name != each.subject]
        )
        judged = answers_to(pictures, activation, each)
        for method, found in widths.items():
            found.append(conformal.fit(others, rate, method)(judged))
        score[rows] = each.head(pictures.plain[rows])
        answered[rows] = classes_of(score[rows], each.cuts)
        own.append(judged)
        order.append(np.nonzero(rows)[0])
    place = np.concatenate(order)
    return Nested(
        conformal.join(own), score[place], answered[place], classes(pictures.score)[place],
        {method: np.concatenate(found) for method, found in widths.items()},
    )  # fmt: skip


def interval_report(found: Nested, corpus: str, rate: float) -> tuple[IntervalReport, Interval]:
    """The figures of all three intervals, and the one to be written, from the answers to everybody."""
    label, answer = (
        {name: part == i for i, name in enumerate(ENGAGEMENT_CLASSES)} for part in (found.label, found.answered)
    )
    figures = {
        method: coverage(method, rate, found.answers, width, label, answer)
        for method, width in found.half_width.items()
    }
    local, constant = (figures[method].half_width_at_rate for method in ("local", "constant"))
    better = local is not None and constant is not None and local < MARGIN * constant
    chosen: Method = "local" if better else "constant"
    interval = conformal.fit(found.answers, rate, chosen)
    counts = len(found.answers), len(found.answers.names)
    report = IntervalReport(corpus, _PROTOCOL, rate, *counts, tuple(figures.values()), chosen, interval.quantile)
    return report, interval


def interval_spec(interval: Interval, rate: float, heads: HeadSpec) -> IntervalSpec:
    """For the manifest. Its contributions are shares less their mean, so that the mean moves into the intercept."""
    spread = interval.spread
    if spread is None:
        return IntervalSpec(rate, interval.quantile)
    mean = np.array([row[0] for row in heads.mean])
    intercept = spread.intercept + float(spread.share @ mean)
    weights = tuple(spread.activation.tolist()), tuple(spread.share.tolist())
    return IntervalSpec(rate, interval.quantile, SpreadSpec(intercept, *weights, spread.floor))


def target_report(logits: F64, votes: F64, target: Target) -> TargetReport:
    """Probabilities from logits [N, E] against votes [N, E], or against the majority of each row."""
    wanted = target_of(votes, target)
    halves = np.array_split(np.random.default_rng(0).permutation(len(logits)), 2)
    after = np.zeros_like(logits)
    for half, other in (halves, halves[::-1]):
        after[half] = logits[half] / temperature.fit(logits[other], wanted[other])
    before, scaled = (temperature.top(temperature.probabilities(part, 1.0), wanted) for part in (logits, after))
    return TargetReport(
        target=target,
        temperature=temperature.fit(logits, wanted),
        pictures=len(logits),
        ece_mass_before=temperature.error(temperature.equal_mass(*before)),
        ece_mass_after=temperature.error(temperature.equal_mass(*scaled)),
        ece_width_before=temperature.error(temperature.equal_width(*before)),
        ece_width_after=temperature.error(temperature.equal_width(*scaled)),
        cross_entropy_before=temperature.cross_entropy(logits, wanted, 1.0),
        cross_entropy_after=temperature.cross_entropy(after, wanted, 1.0),
    )


def readouts(file: ModelFile, samples: Samples) -> list[ConceptReadout]:
    """What the exported model says of prepared crops, as the live path would see them."""
    engine, (crop, heads) = OnnxRuntimeEngine(file), parts_of(file.manifest)
    found: list[ConceptReadout] = []
    for start in track(range(0, len(samples), _BATCH), description="exported model"):
        crops = np.stack([centre(each, MARGIN_PX, crop.size_px) for each in samples.crops[start : start + _BATCH]])
        found += read(engine.infer({"crop": to_tensor(crops, crop)}), heads)
    engine.close()
    return found


def check_belongs(name: str, said: list[ConceptReadout], pictures: Pictures) -> None:
    """Raises CalibrationError unless the exported score is the head that these weights and pictures give."""
    expected = fit(pictures, choose(pictures)[0])(pictures.plain)
    worst = float(np.abs(np.array([each.score for each in said]) - expected).max())
    if not worst <= TOLERANCE:
        raise CalibrationError(
            f"{name} was not exported from these weights with the head of training.engagement: its score differs by "
            f"{worst:.3g}; fit the head, export it, and calibrate that"
        )


def into_manifest(file: ModelFile, heads: HeadSpec) -> None:
    """Write the heads into the manifest beside the network; the old one stays until the new one is whole.

    Raises DataError if it cannot be written.
    """
    path = file.path.with_name("manifest.json")
    manifest = msgspec.structs.replace(file.manifest, heads=heads)
    with replaced(path) as partial:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))


def main(
    experiment: Annotated[Path, typer.Argument(help="the experiment that the weights belong to")],
    weights: Annotated[Path, typer.Option(help="the weights that the model was exported from")],
    model: Annotated[Path, typer.Option(help="model folder, whose manifest is completed")] = MODELS_DIR / "agcm-live",
    engagement: Annotated[Path, typer.Option(help="prepared engagement pictures")] = Path("runs/data/wacv2016.npz"),
    expressions: Annotated[Path, typer.Option(help="prepared pictures with votes that were not trained on")] = Path(
        "runs/data/ferplus_valid.npz"
    ),
    faces: Annotated[Path, typer.Option(help=FACES_HELP)] = FACES,
    rate: Annotated[float, typer.Option(min=0.5, max=0.99, help="how often the label shall lie in the interval")] = 0.9,
    target: Annotated[Target, typer.Option(help="what expression probabilities shall be chances of")] = "votes",
    json: Annotated[Path | None, typer.Option(help="also write the figures here")] = None,
    plot: Annotated[Path | None, typer.Option(help="also draw them here (.svg or .png)")] = None,
) -> None:
    """Measure how far a model is off on people and pictures it was not trained on, and write it into its manifest."""
    try:
        settings, file = load_experiment(experiment), load_model_file(model.name, model.parent)
        crop, heads = parts_of(file.manifest)
        samples, voted = load_samples(engagement), with_votes(load_samples(expressions), expressions)
        torch.set_num_threads(settings.threads)
        network = trained(settings, weights)
        pictures = embed(network, with_scores(samples, engagement), crop.size_px)
        pictures = among(pictures, network, load_samples(faces), crop.size_px)
        said = readouts(file, samples)
        check_belongs(file.manifest.name, said, pictures)
        found = nested(pictures, np.stack([each.activation for each in said]), rate)
        intervals, interval = interval_report(found, engagement.stem, rate)
        logits = np.stack([each.contributions[:, 1:].sum(0) for each in readouts(file, voted)]) + heads.base[1:]
        votes = voted.votes.astype(np.float64)
        targets = tuple(target_report(logits, votes, each) for each in ("votes", "majority"))
        report = CalibrationReport(file.manifest.identity, intervals, expressions.stem, targets, target)
        chosen = next(each.temperature for each in targets if each.target == target)
        into_manifest(file, msgspec.structs.replace(
            heads, temperature=chosen, calibrated_to=target, interval=interval_spec(interval, rate, heads)
        ))  # fmt: skip
        show(report)
        print(f"wrote {model / 'manifest.json'}: {intervals.chosen} interval, temperature {chosen:.3f}")
        if json is not None:
            write(report, json)
        if plot is not None:
            from training.calibration_plot import draw  # matplotlib is slow to load, and only this needs it

            draw(plot, found, rate, logits, votes, {each.target: each.temperature for each in targets})
    except (CalibrationError, DataError, EngineError, ExperimentError, ManifestError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def with_scores(samples: Samples, path: Path) -> Samples:
    """The samples. Raises DataError if one has no engagement label."""
    if np.isnan(samples.score).any():
        raise DataError(f"{path} has pictures without an engagement label; give prepared engagement pictures")
    return samples


def with_votes(samples: Samples, path: Path) -> Samples:
    """The samples that have votes. Raises DataError if there are fewer than two."""
    rows = np.nonzero(~np.isnan(samples.votes).any(1))[0]
    if len(rows) < 2:
        raise DataError(f"{path} has no votes on expressions; give prepared pictures of a validation split")
    return samples.take(rows)


if __name__ == "__main__":
    typer.run(main)
