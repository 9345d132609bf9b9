"""The table of data sets: what each one asks, how it is measured, where it comes from, and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from training.concepts import EXPRESSIONS
from training.data import affectnet, affwild2, cmose, daisee, engagenet, ferplus, noxi, rafdb, wacv2016
from training.data.corpus import Continuous, Corpus, Expressions, Item, Levels, Task, pick

Metric = Literal["accuracy", "macro_f1", "ccc"]
Load = Callable[[Path, str, float], Corpus]
WACV_LEVELS = ("disengaged", "engaged", "very engaged")


@dataclass(frozen=True, slots=True)
class Dataset:
    """A row of DATASETS.

    splits: our names of the official ones; measured: the split that published figures are of. metric: the one they
    are compared by. rate_hz: frames taken of each second of a video unless told otherwise, 0 for pictures. marker: a
    file or folder by which the data set is recognised. load: None where the release holds no pictures.
    """

    title: str
    task: Task
    splits: tuple[str, ...]
    measured: str
    metric: Metric
    rate_hz: float
    marker: str
    source: str
    terms: str
    load: Load | None

    @property
    def is_video(self) -> bool:
        """Whether its items are videos or frames of videos."""
        return self.rate_hz > 0


def _still(load: Callable[[Path, str], Corpus]) -> Load:
    return lambda folder, split, _rate_hz: load(folder, split)


def _ferplus(path: Path, split: str) -> Corpus:
    """FER+ as items; its files hold the pictures themselves."""
    read = ferplus.load(path, split)
    items = tuple(
        Item(f"fer{row:07d}", picture, int(label), votes=votes)
        for picture, label, votes, row in zip(read.pictures, read.majority, read.votes, read.rows, strict=True)
    )
    return Corpus("FER+", split, Expressions(EXPRESSIONS), items, ferplus.POINT_SHARES)


def _wacv2016(folder: Path, split: str) -> Corpus:
    """WACV 2016 as items."""
    pick(split, ("all",), "WACV 2016")
    read = wacv2016.load(folder)
    rows = zip(read.names, read.pictures, read.labels, read.subjects, read.colour, strict=True)
    items = tuple(
        Item(name, picture, int(label) - 1, int(subject), colour=bool(colour))
        for name, picture, label, subject, colour in rows
    )
    return Corpus("WACV 2016", split, Levels(WACV_LEVELS), items, wacv2016.POINT_SHARES)


DATASETS: Mapping[str, Dataset] = {
    "rafdb": Dataset(
        "RAF-DB", Expressions(rafdb.CLASSES), rafdb.SPLITS, "test", "accuracy", 0.0,
        "basic/EmoLabel/list_patition_label.txt", "http://www.whdeng.cn/RAF/model1.html",
        "by agreement, non-commercial research; asked for by e-mail from a university address", _still(rafdb.load),
    ),
    "affectnet7": Dataset(
        "AffectNet-7", Expressions(affectnet.CLASSES[:7]), affectnet.SPLITS, "valid", "accuracy", 0.0,
        "val_set/annotations", "http://mohammadmahoor.com/affectnet/",
        "by agreement, non-commercial research", _still(affectnet.load_7),
    ),
    "affectnet8": Dataset(
        "AffectNet-8", Expressions(affectnet.CLASSES), affectnet.SPLITS, "valid", "accuracy", 0.0,
        "val_set/annotations", "http://mohammadmahoor.com/affectnet/",
        "by agreement, non-commercial research", _still(affectnet.load_8),
    ),
    "affwild2": Dataset(
        "Aff-Wild2 (EXPR)", Expressions(affwild2.CLASSES), affwild2.SPLITS, "valid", "macro_f1", 1.0,
        "cropped_aligned", "https://ibug.doc.ic.ac.uk/resources/aff-wild2/",
        "by agreement (EULA), non-commercial research", affwild2.load,
    ),
    "noxi": Dataset(
        "NoXi (MultiMediate)", Continuous(noxi.LABEL_HZ), noxi.SPLITS, "valid", "ccc", 1.0,
        "val", "https://multimediate-challenge.org/Dataset/",
        "by agreement (EULA), research; features for all, videos on request", noxi.load,
    ),
    "daisee": Dataset(
        "DAiSEE", Levels(daisee.LEVELS), daisee.SPLITS, "test", "accuracy", 1.0,
        "Labels/TestLabels.csv", "https://people.iith.ac.in/vineethnb/resources/daisee/",
        "free for research after a form", daisee.load,
    ),
    "engagenet": Dataset(
        "EngageNet", Levels(engagenet.LEVELS), engagenet.SPLITS, "valid", "accuracy", 1.0,
        "validation_engagement_labels.xlsx", "https://github.com/engagenet/engagenet_baselines",
        "by agreement, research", engagenet.load,
    ),
    "cmose": Dataset(
        "CMOSE", Levels(cmose.LEVELS), cmose.SPLITS, "test", "accuracy", 1.0,
        "final_data_1.json", "https://huggingface.co/datasets/cwuau/CMOSE",
        "CC BY-SA 4.0; features only", None,
    ),
    "ferplus": Dataset(
        "FER+", Expressions(EXPRESSIONS), ("train", "valid", "test"), "test", "accuracy", 0.0,
        "fer2013new.csv", "https://github.com/microsoft/FERPlus",
        "labels MIT; the pictures (Kaggle FER2013) were collected from the web, their rights are unresolved",
        _still(_ferplus),
    ),
    "wacv2016": Dataset(
        "WACV 2016", Levels(WACV_LEVELS), ("all",), "all", "macro_f1", 0.0,
        "1", "https://github.com/e-drishti/wacv2016", "none stated", _still(_wacv2016),
    ),
}  # fmt: skip


def found_in(folder: Path, name: str) -> Path | None:
    """Where a data set lies in a folder of data sets: in FOLDER/NAME or one folder deeper; None if it does not.

    Both AffectNets lie in `affectnet`; the FER+ file may lie in FOLDER itself.
    """
    marker = DATASETS[name].marker
    if name == "ferplus" and (folder / "ferplus.npz").is_file():
        return folder
    homes = [home for home in (folder / name, folder / name.rstrip("78")) if home.is_dir()]
    inner = [path for home in homes for path in sorted(home.iterdir()) if path.is_dir()]
    return next((place for place in (*homes, *inner) if (place / marker).exists()), None)
