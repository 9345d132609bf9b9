"""From the items of a corpus to face crops, one at a time: memory does not grow with the corpus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from engines.base import Engine
from engines.preprocess import Luma
from training.concepts import EXPRESSIONS
from training.data.cache import CropCache, CropRule, key_of
from training.data.corpus import F32, Continuous, Corpus, Expressions, Item, Levels
from training.data.pictures import DataError, cut_crop, read_pixels
from training.data.samples import Row
from training.data.video import Frame, frames

_NO_VOTES: F32 = np.full(len(EXPRESSIONS), np.nan, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """A crop, its item's place in the corpus, and when in its video it was seen (0 for a picture)."""

    place: int
    time_s: float
    crop: Luma
    found: bool


@dataclass(slots=True)
class Broken:
    """Items that could not be read and were passed over, with their errors."""

    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Cutter:
    """Cuts pictures as the live path does. Without a cache every picture is cut."""

    detector: Engine
    rule: CropRule
    cache: CropCache | None = None

    def cut(self, luma: Luma) -> tuple[Luma, bool]:
        """The crop, and whether a face was found."""
        rule = self.rule
        if self.cache is None:
            return cut_crop(self.detector, luma, rule.shares, rule.size_px, rule.margin_px)
        key = key_of(luma, rule.digest())
        kept = self.cache.get(key)
        if kept is None:
            kept = cut_crop(self.detector, luma, rule.shares, rule.size_px, rule.margin_px)
            self.cache.put(key, kept[0], found=kept[1])
        return kept


def rule_of(detector: Engine, corpus: Corpus, size_px: int, margin_px: int) -> CropRule:
    """The rule by which a corpus is cut."""
    return CropRule(size_px, margin_px, corpus.point_shares, detector.manifest.sha256)


def cut_item(cutter: Cutter, corpus: Corpus, place: int) -> Iterator[Cut]:
    """The crops of one item: one of a picture, some of a video. Raises DataError if it cannot be read."""
    for frame in _shots(corpus.items[place], corpus.rate_hz):
        crop, found = cutter.cut(frame.luma)
        yield Cut(place, frame.time_s, crop, found)


def cut_corpus(cutter: Cutter, corpus: Corpus, places: Iterable[int], broken: Broken | None = None) -> Iterator[Cut]:
    """The crops of the items at `places`, one after the other. An item that cannot be read raises DataError; with
    `broken` it is noted there and passed over whole, for which one item at a time is held in memory.
    """
    for place in places:
        if broken is None:
            yield from cut_item(cutter, corpus, place)
            continue
        try:
            whole = list(cut_item(cutter, corpus, place))
        except DataError as error:
            broken.errors.append(str(error))
        else:
            yield from whole


def rows(cuts: Iterable[Cut], corpus: Corpus) -> Iterator[Row]:
    """Crops with the labels of their items. Frames of a video without a face or a label are left out: nothing is to
    be learnt from them; pictures without a face stay, as their crops lie where faces lie in that corpus."""
    for cut in cuts:
        item = corpus.items[cut.place]
        score = score_at(corpus, item, cut.time_s)
        is_video = corpus.rate_hz > 0
        if is_video and (not cut.found or (isinstance(corpus.task, Continuous) and np.isnan(score))):
            continue
        name = f"{item.name}@{cut.time_s:.3f}" if is_video else item.name
        yield Row(cut.crop, cut.found, name, _votes(corpus, item), score, item.subject, item.colour)


def score_at(corpus: Corpus, item: Item, time_s: float) -> float:
    """Engagement in [0, 1] at a moment of an item; NaN if unknown."""
    task = corpus.task
    if isinstance(task, Levels):
        return task.score(item.label)
    if isinstance(task, Continuous) and item.track is not None:
        at = round(time_s * task.label_hz)
        return float(item.track[at]) if at < len(item.track) else float("nan")
    return float("nan")


def _votes(corpus: Corpus, item: Item) -> F32:
    if item.votes is not None:
        return item.votes
    return corpus.task.votes(item.label) if isinstance(corpus.task, Expressions) else _NO_VOTES


def _shots(item: Item, rate_hz: float) -> Iterator[Frame]:
    if isinstance(item.media, np.ndarray):
        yield Frame(0.0, item.media)
    elif rate_hz > 0:
        yield from frames(item.media, rate_hz)
    else:
        yield Frame(0.0, read_picture(item.media))


def read_picture(path: Path) -> Luma:
    """The luma plane of a picture file. Raises DataError naming a file that is missing or is no picture."""
    return read_pixels(path, cv2.IMREAD_GRAYSCALE)
