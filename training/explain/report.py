"""All figures of a report in one typed tree, and the sections that are written from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from engines.spec import ConceptSpec
from training.explain import (
    deletion,
    fairness,
    interventions,
    leakage,
    occlusion,
    plots,
    pointing,
    purity,
    quality,
    sums,
    worth,
)
from training.explain.faithful import BoxFigures
from training.explain.page import Section, markdown
from training.explain.renders import MOVED


class Figures(msgspec.Struct, frozen=True):
    """Everything that was measured. quick: on a few hundred pictures only. pictures: how many of each corpus.
    live_difference: between the interventions here and those of the live path.
    """

    model: str
    backend: str
    quick: bool
    seed: int
    pictures: dict[str, int]
    sums: tuple[sums.SumFigures, ...]
    curves: tuple[deletion.Curve, ...]
    boxes: tuple[BoxFigures, ...]
    interventions: tuple[interventions.Intervention, ...]
    live_difference: float
    worth: tuple[worth.Worth, ...]
    hidden: tuple[occlusion.Hiding, ...]
    pointed: tuple[pointing.Pointing, ...]
    quality: tuple[quality.Quality, ...]
    purity: tuple[purity.Purity, ...]
    leakage: tuple[leakage.Leakage, ...]
    fairness: tuple[fairness.GroupRow, ...]


def write(folder: Path, figures: Figures, concepts: Sequence[ConceptSpec]) -> Path:
    """README.md, figures.json and the pictures; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [concept.name for concept in concepts]
    plots.sums(folder / "sums.png", figures.sums)
    plots.deletion(folder / "deletion.png", figures.curves)
    plots.interventions(folder / "interventions.png", figures.interventions)
    if figures.hidden:
        plots.maps(folder / "maps.png", figures.hidden, figures.pointed, names)
    plots.quality(folder / "concepts.png", figures.quality, names)
    plots.fairness(folder / "groups.png", figures.fairness)
    (folder / "figures.json").write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n")
    page = folder / "README.md"
    page.write_text(markdown("Explanations, tested", intro(figures), sections(figures, concepts)), encoding="utf-8")
    return page


def intro(figures: Figures) -> tuple[str, ...]:
    """What was tested, on what, and how to do it again."""
    counts = ", ".join(f"{count} of {name}" for name, count in figures.pictures.items())
    quick = "**Quick run: a few hundred pictures of each corpus, wide intervals.** " if figures.quick else ""
    again = "python -m training.explain" + (" --quick" if figures.quick else "")
    return (
        f"{quick}{figures.model} on {figures.backend}; pictures: {counts}; seed {figures.seed}. Again: `{again}`.",
        "Every sentence in bold is written by the program from the figures ([figures.json](figures.json)). Brackets "
        "hold 95 % bootstrap intervals. FER+ valid and the renders are held out from training; the engagement head was "
        "fitted on these very WACV 2016 people, so what is said of it is about this head, not about new people.",
    )


def sections(figures: Figures, concepts: Sequence[ConceptSpec]) -> tuple[Section, ...]:
    """In the order of the questions."""
    return (
        _sums(figures),
        _deletion(figures),
        _interventions(figures),
        _maps(figures),
        _quality(figures, concepts),
        _purity(figures),
        _fairness(figures),
    )


def _sums(figures: Figures) -> Section:
    rows = tuple(
        (each.backend, "–", f"not run: {each.absent}", "", "", "") if each.absent else
        (each.backend, str(each.pictures), f"{each.published_max:.1e}", f"{each.published_mean:.1e}",
         f"{each.network_max:.1e}", f"{each.network_mean:.1e}")
        for each in figures.sums
    )  # fmt: skip
    columns = ("backend", "pictures", "published, max", "mean", "network's own, max", "mean")
    return Section(
        "1. The sum", f"Is the score base + the sum of the contributions, within {sums.LIMIT:.0e}, for every picture?",
        "sums.png", columns, rows, (sums.said(figures.sums),),
        ("Published: what a result carries. Network's own: the same against the addition inside the network, which "
         "ends before the readout begins and rounds as the backend does.",),
    )  # fmt: skip


def _deletion(figures: Figures) -> Section:
    rows = []
    for curve in figures.curves:
        partner = deletion.find(figures.curves, curve.system, curve.head, curve.reference, "insertion", curve.order)
        if curve.test == "deletion" and partner is not None:
            kept = "" if curve.kept is None else f"{100 * curve.kept[min(3, len(curve.kept) - 1)]:.0f} %"
            what = f"{curve.head}, {curve.system}, by {curve.order}"
            rows.append((what, curve.reference, curve.area.text(), partner.area.text(), kept))
    boxes = "; ".join(
        f"{box.head}: {box.figure} {box.black_box:.3f} (the model: {box.model:.3f}; fitted on {box.trained_on})"
        for box in figures.boxes
    )
    foretold = tuple(
        f"{box.head}: what is left after random deletions lies {box.model_surprise:.0e} from what the contributions "
        f"foretell, and {box.surprise:.2f} from what SHAP foretells of the black box."
        for box in figures.boxes if box.surprise is not None
    )  # fmt: skip
    return Section(
        "2. Deletion and insertion", "Does the answer hang on the concepts that are said to make it?",
        "deletion.png", ("what", "reference", "deletion area (low is good)", "insertion area (high is good)",
                         "same expression after 3"),
        tuple(rows), (*deletion.said(figures.curves), *foretold),
        ("A deleted concept takes its mean over the training pictures (contribution 0), or becomes inactive. Areas are "
         "in units of the mean distance of the answer from its reference. The model adds up, so that its insertion "
         "mirrors its deletion. Random: ten orders a picture. Engagement intervals draw people, not pictures.",
         "The black box is boosted trees on the same activations, explained by permutation SHAP against their mean. "
         "Areas of two models differ also because one hangs on fewer concepts than the other: compare each with "
         f"its own random order. How well the black box does its task: {boxes}."),
    )  # fmt: skip


def _interventions(figures: Figures) -> Section:
    rows = tuple(
        (f"{each.head}, {each.told}, {each.order} order", str(each.pictures), each.figure, f"{each.values[0]:.3f}",
         f"{each.values[len(each.values) // 2]:.3f}", f"{each.values[-1]:.3f}", each.change.text(3))
        for each in figures.interventions
    )  # fmt: skip
    return Section(
        "3. Interventions", "Does it help to tell the model the truth about its concepts, and does a lie hurt?",
        "interventions.png", ("what is set", "pictures", "figure", "none set", "half", "all", "change"),
        rows, (*interventions.said(figures.interventions), *worth.said(figures.worth)),
        ("Truth for photographs is the teacher's estimate, not FACS coding, and most concepts were learnt from it; AU6 "
         "and AU9, which it does not see, are never set. Renders have exact concepts but no label of either task, so "
         "no curve can be drawn for them. The contrary is one minus the truth. Uncertainty: activations nearest to .5 "
         "first. Blurred: by a Gaussian of "
         f"{interventions.BLUR_PX:.0f} of 112 px; their truth is what the teacher said of the sharp picture.",
         f"engines.concept.intervene, which answers live, gives the same scores within {figures.live_difference:.0e}."),
    )  # fmt: skip


def _maps(figures: Figures) -> Section:
    rows = [
        (f"{each.model}, {plots.MAP_NAMES[each.map]}", str(each.pictures), each.fall.text(), each.own_fall.text(),
         "–" if each.rate is None else each.rate.percent(), "–" if each.beaten is None else each.beaten.percent())
        for each in figures.hidden if each.concept == "all"
    ]  # fmt: skip
    said = (*occlusion.said(figures.hidden), *pointing.said(figures.pointed))
    absent = "" if figures.pointed else " Pointing was not measured: it needs the geometry of the renders (`--ict`)."
    return Section(
        "4. Maps", "Does a map show what its concept is read from, and does it point at the right place?",
        "maps.png" if figures.hidden else "", ("what is hidden", "cases", "fall of the activation",
                     "by its own map, same cases", "falls more than the other active concepts", "own map takes more"),
        tuple(rows), said,
        (f"A case is a picture and a concept of activation ≥ {occlusion.ACTIVE}. The top {100 * occlusion.SHARE:.0f} % "
         "of cells become a blur of their surroundings; grey: the mean luma of the crop, which no model was trained "
         "for, while agcm-live has seen the blur in training (training.agcm.evidence). The landmark-only map is the "
         "region of the concept's shape on the aligned face, the same for every picture (head pose has none). Falls "
         "against the others are in logits.",
         f"Pointing: new renders that show the concept (≥ {pointing.SHOWN}); the peak is right within "
         f"{pointing.NEAR_PX:.0f} px of 112 of a vertex that the concept's shapes move in that very face by ≥ "
         f"{MOVED:.0%} of the farthest, on the side that faces the camera.{absent}"),
    )  # fmt: skip


def _quality(figures: Figures, concepts: Sequence[ConceptSpec]) -> Section:
    truths = list(dict.fromkeys(each.truth for each in figures.quality))
    pointed = {each.concept: each for each in figures.pointed if each.model == figures.model}
    hidden = {each.concept: each for each in figures.hidden if each.map == "own" and each.model == figures.model}
    rows = []
    for concept in concepts:
        cells = [f"{concept.name}, {concept.meaning.split(',')[0]}"]
        for truth in truths:
            each = next((q for q in figures.quality if q.truth == truth and q.concept == concept.name), None)
            cells += ["–", "–"] if each is None else [
                f"{'–' if each.auc is None else each.auc.text()} [{each.present}]",
                "–" if each.r is None else f"{each.r:.2f}",
            ]  # fmt: skip
        cells.append(f"{hidden[concept.name].fall.value:.2f}" if concept.name in hidden else "–")
        cells.append(f"{100 * pointed[concept.name].hit.value:.0f} %" if concept.name in pointed else "–")
        rows.append(tuple(cells))
    columns = [part for truth in truths for part in (f"AUC against {truth} [present]", "r")]
    return Section(
        "5. Each concept", "How well is every concept recognised, and how far is each one to be believed?",
        "concepts.png", ("concept", *columns, "fall when hidden", "pointing"), tuple(rows),
        quality.said(figures.quality),
        (f"AUC of the activation against labels cut at {quality.PRESENT}, where at least {quality.FEWEST} pictures lie "
         "on either side; r with the uncut label. The teacher is itself wrong about several concepts "
         "([how well it sees](../training.md#5-let-the-teacher-label-the-photographs)).",),
    )  # fmt: skip


def _purity(figures: Figures) -> Section:
    leaks = {each.representation: each for each in figures.leakage}
    rows = []
    for name in dict.fromkeys([*(each.representation for each in figures.purity), *leaks]):
        pure = next((each for each in figures.purity if each.representation == name), None)
        leak = leaks.get(name)
        rows.append((
            name,
            *(("–",) * 3 if pure is None else (f"{pure.cas:.2f}", f"{pure.ois:.2f}", f"{pure.nis:.2f}")),
            *(("–",) * 2 if leak is None else (f"{leak.ctl_mean:.3f}", f"{leak.icl_mean:.3f}")),
        ))  # fmt: skip
    said = (purity.said(figures.purity), leakage.said(figures.leakage))
    counts = ", ".join(
        [f"{each.pictures} renders and {each.concepts} concepts" for each in figures.purity[:1]]
        + [f"{each.pictures} photographs and {len(each.ctl)} concepts" for each in figures.leakage[:1]]
    )
    return Section(
        "6. Purity and leakage", "Does a concept carry itself and nothing else?", "",
        ("representation", "CAS (1 best)", "OIS (0 best)", "NIS (.5 best)", "CTL (0 best)", "ICL (0 best)"),
        tuple(rows), said,
        ("Activation: the one number p. Shares: W · c, one number for each output: all that the heads read of a "
         "concept's embedding. CAS, OIS and NIS against the exact labels of held-out renders; CTL and ICL on FER+ "
         f"valid, with the teacher's values for the true concepts. Pictures: {counts}.",),
    )  # fmt: skip


def _fairness(figures: Figures) -> Section:
    rows = []
    for corpus in dict.fromkeys(row.corpus for row in figures.fairness):
        own = [row for row in figures.fairness if row.corpus == corpus]
        for factor in dict.fromkeys(row.factor for row in own):
            groups = [row for row in own if row.factor == factor]
            ordered = sorted(groups, key=lambda row: row.value.value)
            ends = ordered if own[0].figure == "error" else ordered[::-1]
            cells = [f"{each.group}: {each.value.text()}, n {each.pictures}" for each in (ends[0], ends[-1])]
            if len(groups) > 1 or factor == "all":
                rows.append((f"{corpus}, {factor}", str(len(groups)), *(cells if len(groups) > 1 else (cells[0], "–"))))
    return Section(
        "7. Groups", "For whom, and for which pictures, is the model worse, as far as that is known?",
        "groups.png", ("what divides them", "groups", "best", "worst"), tuple(rows), fairness.said(figures.fairness),
        (f"Groups of at least {fairness.FEWEST} pictures; every one is in figures.json. Head angles are the "
         "model's own (its head concepts are its most reliable ones). Age, skin tone, sex, culture, glasses and beards "
         "are not known of these pictures, and nothing is said about them. Groups overlap: a factor that is worse need "
         "not be the cause.",),
    )  # fmt: skip
