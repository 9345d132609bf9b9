"""From pictures and videos to crops: the live path's pixels, bounded memory, a cache that goes on where it stopped."""

from __future__ import annotations

import sqlite3
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from engines.base import Engine
from engines.preprocess import Luma
from pipeline.luma import LumaReader
from tests.training import layouts
from training.data import cut
from training.data.cache import CropRule, key_of, open_cache
from training.data.corpus import CENTRE_SHARES, Continuous, Corpus, Expressions, Item
from training.data.cut import Broken, Cut, Cutter, cut_corpus, read_picture, rows, rule_of
from training.data.ferplus import POINT_SHARES
from training.data.pictures import DataError, cut_crops
from training.data.video import frames
from training.prepare import detector

RULE = CropRule(112, 16, POINT_SHARES, "sha")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return detector()


def stills(*media: Path | Luma) -> Corpus:
    items = tuple(Item(f"{i}.jpg", each, 1, subject=i) for i, each in enumerate(media))
    return Corpus("toy", "train", Expressions(("neutral", "happiness", "other")), items, POINT_SHARES)


def everything(cutter: Cutter, corpus: Corpus, broken: Broken | None = None) -> list[Cut]:
    """The crops of every item."""
    return list(cut_corpus(cutter, corpus, range(len(corpus.items)), broken))


def test_a_video_gives_the_first_frame_of_each_period(tmp_path: Path) -> None:
    path = layouts.video(tmp_path / "v.mp4", (0, 1, 2), frames_each=10, rate_hz=10)
    assert [round(each.time_s, 3) for each in frames(path, 1.0)] == [0, 1, 2]
    quarters = [round(each.time_s, 3) for each in frames(path, 4.0)]
    assert quarters == [second + part for second in (0, 1, 2) for part in (0, 0.3, 0.5, 0.8)]
    assert len(list(frames(path, 100.0))) == 30
    first, *_, last = frames(path, 1.0)
    assert np.abs(first.luma.astype(int) - last.luma).max() > 50, "another face"


def test_frames_have_the_luma_of_the_live_path(tmp_path: Path) -> None:
    path = layouts.video(tmp_path / "v.mp4")
    with av.open(str(path)) as container:
        live = [LumaReader().read(frame).copy() for frame in container.decode(video=0)]
    ours = [each.luma for each in frames(path, 100.0)]
    assert len(live) == len(ours)
    for one, other in zip(live, ours, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1, "rounding at most"


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 8 // 10])


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        ("v.avi", cut_off, r"v\.avi: (cut off, \d+ of 80 frames are there|damaged after .* s \(\d+ frames\))"),
        ("v.mp4", cut_off, r"v\.mp4: not a readable video"),
        ("v.avi", lambda path: path.write_bytes(b""), r"v\.avi: not a readable video"),
        ("v.avi", lambda path: path.write_bytes(b"RIFF no video"), r"v\.avi: not a readable video"),
        ("v.avi", lambda path: path.unlink(), r"v\.avi: labelled, but the file is missing"),
    ],
)
def test_a_truncated_video_is_named(tmp_path: Path, name: str, spoil: Callable[[Path], object], words: str) -> None:
    path = layouts.video(tmp_path / name, range(8))
    spoil(path)
    with pytest.raises(DataError, match=words) as error:
        list(frames(path, 5.0))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        ("a.jpg", lambda path: path.write_bytes(b""), r"a\.jpg: not a readable picture"),
        ("a.png", lambda path: path.write_bytes(b"no picture"), r"a\.png: not a readable picture"),
        ("a.jpg", cut_off, r"a\.jpg: not a readable picture"),
        ("a.jpg", lambda path: path.unlink(), r"a\.jpg: labelled, but the file is missing"),
    ],
)
def test_a_corrupt_picture_is_named(tmp_path: Path, name: str, spoil: Callable[[Path], object], words: str) -> None:
    path = layouts.picture(tmp_path / name)
    assert read_picture(path).shape == (112, 112)
    spoil(path)
    with pytest.raises(DataError, match=words):
        read_picture(path)


def test_crops_are_those_of_the_other_way(engine: Engine) -> None:
    """The streamed crops, the same from the cache, and those of cut_crops."""
    corpus = stills(*layouts.faces()[:3])
    plain = cut_crops(engine, layouts.faces()[:3], POINT_SHARES, 112, 16)
    rule = rule_of(engine, corpus, 112, 16)
    made = list(rows(everything(Cutter(engine, rule), corpus), corpus))
    np.testing.assert_array_equal([row.crop for row in made], plain.crops)
    assert [row.found for row in made] == plain.found.tolist() == [True] * 3
    assert [row.name for row in made] == ["0.jpg", "1.jpg", "2.jpg"]
    assert [row.subject for row in made] == [0, 1, 2]


class Counting:
    """Counts pictures that are really cut, and fails at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fail_at: int = 0) -> None:
        self.count, self.fail_at, self._cut = 0, fail_at, cut.cut_crop
        monkeypatch.setattr(cut, "cut_crop", self)

    def __call__(self, *arguments: object) -> tuple[Luma, bool]:
        self.count += 1
        if self.count == self.fail_at:
            raise KeyboardInterrupt
        return self._cut(*arguments)  # type: ignore[arg-type]


def test_an_interrupted_preparation_goes_on_where_it_stopped(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = stills(*layouts.faces()[:6])
    rule = rule_of(engine, corpus, 112, 16)
    first = Counting(monkeypatch, fail_at=5)
    with pytest.raises(KeyboardInterrupt), open_cache(tmp_path / "c" / "crops.sqlite") as cache:
        everything(Cutter(engine, rule, cache), corpus)
    assert first.count == 5
    monkeypatch.undo()
    second = Counting(monkeypatch)
    with open_cache(tmp_path / "c" / "crops.sqlite") as cache:
        again = everything(Cutter(engine, rule, cache), corpus)
    assert second.count == 2, "four of six were kept"
    monkeypatch.undo()
    plain = everything(Cutter(engine, rule), corpus)
    np.testing.assert_array_equal([each.crop for each in again], [each.crop for each in plain])


def test_what_was_put_survives_a_kill(tmp_path: Path) -> None:
    """Another process that looks at the file sees what was committed, whatever becomes of the one that wrote."""
    with open_cache(tmp_path / "crops.sqlite") as cache:
        for i in range(100):
            cache.put(bytes([i]), np.full((4, 4), i, np.uint8), found=i % 2 == 0)
        other = sqlite3.connect(tmp_path / "crops.sqlite")
        assert other.execute("SELECT COUNT(*) FROM crops").fetchone()[0] >= 64
        other.close()


@pytest.mark.parametrize(
    "other",
    [replace(RULE, size_px=96), replace(RULE, margin_px=0), replace(RULE, detector_sha256="other"),
     replace(RULE, shares=CENTRE_SHARES)],
)  # fmt: skip
def test_another_rule_is_another_key(other: CropRule) -> None:
    face = layouts.faces()[0]
    assert key_of(face, RULE.digest()) == key_of(face.copy(), RULE.digest())
    assert key_of(face, other.digest()) != key_of(face, RULE.digest())
    assert key_of(face.reshape(56, 224), RULE.digest()) != key_of(face, RULE.digest())
    changed = face.copy()
    changed[0, 0] ^= 1
    assert key_of(changed, RULE.digest()) != key_of(face, RULE.digest())


def test_a_file_that_is_no_cache_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "crops.sqlite").write_bytes(b"something else entirely, long enough to be looked at" * 40)
    words = r"crop cache .*crops\.sqlite: .*delete the file"
    with pytest.raises(DataError, match=words), open_cache(tmp_path / "crops.sqlite"):
        pass


def test_a_cache_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"crop cache .*crops\.sqlite"), open_cache(tmp_path / "file" / "crops.sqlite"):
        pass


def test_a_broken_item_stops_unless_it_may_be_passed_over(engine: Engine, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"")
    corpus = stills(layouts.faces()[0], bad, layouts.faces()[1])
    cutter = Cutter(engine, rule_of(engine, corpus, 112, 0))
    with pytest.raises(DataError, match=r"bad\.jpg: not a readable picture"):
        everything(cutter, corpus)
    broken = Broken()
    assert [each.place for each in everything(cutter, corpus, broken)] == [0, 2]
    assert len(broken.errors) == 1 and "bad.jpg" in broken.errors[0]


def test_frames_without_a_face_or_a_label_are_left_out(engine: Engine, tmp_path: Path) -> None:
    path = layouts.video(tmp_path / "v.mp4", (0, 1))
    track = np.array([0.1] * 25 + [np.nan] * 15 + [0.9] * 5, np.float32)
    corpus = Corpus("toy", "train", Continuous(25.0), (Item("v", path, track=track),), CENTRE_SHARES, 10.0)
    made = list(rows(everything(Cutter(engine, rule_of(engine, corpus, 112, 16)), corpus), corpus))
    scores = {row.name: round(row.score, 3) for row in made}
    assert scores["v@0.000"] == 0.1 and scores["v@1.600"] == 0.9
    assert "v@1.200" not in scores, "nobody annotated it"
    assert "v@1.900" not in scores, "the labels end before the video"


def test_memory_does_not_grow_with_a_video(engine: Engine, tmp_path: Path) -> None:
    """Frames of a video are made one at a time: four times as long needs no more memory."""
    peaks = []
    for seconds in (2, 8):
        path = layouts.video(tmp_path / f"{seconds}.mp4", (0,) * seconds)
        tracemalloc.start()
        for _ in frames(path, 10.0):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + 100_000
