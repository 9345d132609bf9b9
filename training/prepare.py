"""Corpora -> prepared crops: `python -m training.prepare NAME SOURCE --split SPLIT --out FILE.npz`.

Every picture goes through the detector, the alignment and the luma crop of the live path. Of videos some frames of each
second are taken (--rate). Crops are kept by content (--cache): a preparation that was interrupted goes on where it
stopped, and an unchanged picture is never cut twice. AU labels come from the teacher
(training.teachers.mediapipe_faces, in an environment of its own) or from tables of OpenFace or Py-Feat (labels-csv).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import track

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.base import Engine, EngineError
from engines.spec import ManifestError, load_model_file
from training.concepts import NAMES
from training.data import cmose, noxi
from training.data.cache import CropRule, open_cache
from training.data.corpus import Corpus, check_there
from training.data.cut import Broken, Cutter, cut_corpus, rows, rule_of
from training.data.datasets import DATASETS, Dataset
from training.data.features import Angles
from training.data.ferplus import POINT_SHARES
from training.data.overlay import lay_over, read_tables
from training.data.pictures import DataError, open_npz
from training.data.samples import MARGIN_PX, Samples, blank, load, save, save_rows
from training.data.splits import check_disjoint, check_filled

CROP_PX = 112
STORED_PX = CROP_PX + 2 * MARGIN_PX
CACHE = Path("runs/cache/crops.sqlite")
app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, rich_markup_mode=None)
Source = Annotated[Path, typer.Argument(help="the corpus: an npz, or a folder in its official layout")]
Out = Annotated[Path, typer.Option(help="prepared file to write")]
Split = Annotated[str, typer.Option(help="which of the data set's splits")]
Rate = Annotated[float, typer.Option(help="frames of each second of a video; 0: the data set's own", min=0.0)]
Cache = Annotated[Path, typer.Option(help="file of kept crops")]
SkipBroken = Annotated[bool, typer.Option("--skip-broken", help="pass over unreadable items, and say which")]
Features = Annotated[bool, typer.Option("--features", help="noxi: OpenFace streams instead of videos")]


@dataclass(frozen=True, slots=True)
class How:
    """cache: file of kept crops. skip_broken: pass over unreadable items."""

    cache: Path = CACHE
    skip_broken: bool = False


def detector() -> Engine:
    """The face detector of the live path."""
    return OnnxRuntimeEngine(load_model_file("centerface"), threads=1)


def prepare(corpus: Corpus, out: Path, how: How) -> list[str]:
    """Write the crops of a corpus with their labels; what to tell, a line each. Raises DataError naming the item."""
    broken = Broken() if how.skip_broken else None
    if broken is None:
        check_there(corpus)
    engine = detector()
    with open_cache(how.cache) as cache:
        cutter = Cutter(engine, rule_of(engine, corpus, CROP_PX, MARGIN_PX), cache)
        places = track(range(len(corpus.items)), f"{corpus.name} {corpus.split}")
        try:
            count, found = save_rows(out, rows(cut_corpus(cutter, corpus, places, broken), corpus), STORED_PX)
        except KeyboardInterrupt:
            print("interrupted: the crops are kept, and the same command goes on from here", file=sys.stderr)
            raise
    told = [f"{out}: {count} crops, face found in {found / count:.2%}"]
    told += [f"left out: {number} {reason}" for reason, number in corpus.left_out.items() if number]
    if broken is not None:
        told += [f"passed over: {error}" for error in broken.errors]
    return told


def from_noxi_features(folder: Path, split: str, rate_hz: float) -> Samples:
    """Concepts and engagement from the OpenFace streams; there are no pictures, so the crops have no pixels."""
    moments = list(track(noxi.moments(folder, split, rate_hz), "moments"))
    if not moments:
        raise DataError(f"{folder}: no labelled moment with a face in split {split!r}")
    samples = blank(np.zeros((len(moments), 0, 0), np.uint8), np.ones(len(moments), bool))
    return replace(
        samples,
        concepts=np.stack([each.activations for each in moments]),
        weights=np.stack([each.weights for each in moments]),
        score=np.array([each.score for each in moments], np.float32),
        subjects=np.array([each.person.subject for each in moments], np.int64),
        names=np.array([f"{each.person.session}/{each.person.role}@{each.time_s:.3f}" for each in moments]),
    )


def from_cmose(folder: Path, split: str) -> Samples:
    """Mean concepts and engagement of every clip; there are no pictures, so the crops have no pixels."""
    clips = cmose.load(folder, split)
    means = [cmose.mean_concepts(table) for _, table in track(cmose.tables(clips), "clips", len(clips))]
    weights = np.stack([weight for _, weight in means])
    samples = blank(np.zeros((len(clips), 0, 0), np.uint8), np.asarray(weights.any(1)))
    return replace(
        samples,
        concepts=np.stack([mean for mean, _ in means]),
        weights=weights,
        score=np.array([cmose.task().score(clip.level) for clip in clips], np.float32),
        subjects=np.array([clip.subject for clip in clips], np.int64),
        names=np.array([clip.name for clip in clips]),
    )


def from_renders(path: Path, kept: Path | None = None) -> Samples:
    """Crops with exact concepts; renders in which no face is found are left out. kept: file of kept crops."""
    if not path.is_file():
        raise DataError(f"renders not found: {path}; run python -m training.synthetic.generate first")
    with open_npz(path, ("images", "concepts", "names"), "a file of renders") as file:
        pictures, concepts, names = list(file["images"]), file["concepts"], tuple(file["names"].tolist())
    if names != NAMES:
        raise DataError(f"{path} was rendered for other concepts; run python -m training.synthetic.generate again")
    check_filled("renders", len(pictures), str(path))
    engine = detector()
    rule = CropRule(CROP_PX, MARGIN_PX, POINT_SHARES, engine.manifest.sha256)
    with nullcontext() if kept is None else open_cache(kept) as cache:
        cutter = Cutter(engine, rule, cache)
        made = [cutter.cut(picture) for picture in track(pictures, description="face crops")]
    found = np.array([seen for _, seen in made])
    if not found.any():
        raise DataError(f"{path}: no face was found in any of the {len(pictures)} renders")
    samples = blank(np.stack([crop for crop, _ in made]), found)
    return replace(samples, concepts=concepts, weights=np.ones_like(concepts)).take(found)


def _write(samples: Samples, out: Path) -> None:
    save(out, samples)
    print(f"{out}: {len(samples)} crops, face found in {samples.found.mean():.2%}")


def _split(row: Dataset, split: str) -> str:
    if split or len(row.splits) == 1:
        return split or row.splits[0]
    raise DataError(f"{row.title} has the splits {', '.join(row.splits)}; say which with --split")


def _command(name: str, row: Dataset) -> Callable[..., None]:
    """The command of a data set."""

    def command(
        source: Source,
        out: Out,
        split: Split = "",
        rate: Rate = 0.0,
        cache: Cache = CACHE,
        skip_broken: SkipBroken = False,
        features: Features = False,
    ) -> None:
        chosen, rate_hz = _split(row, split), rate or row.rate_hz
        if features and name != "noxi":
            raise DataError(f"--features is for noxi; {row.title} has pictures")
        if row.load is None:
            _write(from_cmose(source, chosen), out)
        elif features:
            _write(from_noxi_features(source, chosen, rate_hz), out)
        else:
            told = prepare(row.load(source, chosen, rate_hz), out, How(cache, skip_broken))
            print("\n".join(told))

    frames = f" {row.rate_hz:g} frame of each second unless --rate says otherwise." if row.is_video else ""
    command.__doc__ = f"{row.title}. Splits: {', '.join(row.splits)}.{frames} From {row.source}: {row.terms}."
    return command


for _name, _row in DATASETS.items():
    app.command(_name)(_command(_name, _row))


@app.command("renders")
def _renders(source: Source, out: Out, cache: Cache = CACHE) -> None:
    """Rendered faces: the npz that training.synthetic.generate wrote. Those in which no face is found are left out."""
    _write(from_renders(source, cache), out)


@app.command("labels-csv")
def _labels(
    prepared: Annotated[Path, typer.Argument(help="a prepared file")],
    labels: Annotated[Path, typer.Argument(help="a CSV of OpenFace, Py-Feat or pipeline.export, or a folder of them")],
    out: Out,
    angles: Annotated[Angles, typer.Option(help="unit of Py-Feat's head angles")] = "auto",
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="pictures may be without labels")] = False,
) -> None:
    """Lay AU labels of another program over prepared crops; train on the result with teacher = ""."""
    laid = lay_over(load(prepared), read_tables(labels, angles), allow_missing=allow_missing)
    _write(laid, out)
    labelled = [name for name, weight in zip(NAMES, laid.weights.sum(0), strict=True) if weight > 0]
    print(f"labelled concepts: {', '.join(labelled)}")


@app.command("check-splits")
def _check(files: Annotated[list[Path], typer.Argument(help="prepared files, one a split")]) -> None:
    """Fail if a subject is in two of the files."""
    check_disjoint({str(path): load(path).subjects for path in files})
    print("no subject is in two of these files")


def main() -> None:
    """Command line; a mistake is one line and exit code 2."""
    try:
        app()
    except (DataError, ManifestError, EngineError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
