"""The shipped demo clip and its ground truth agree with each other and with the timeline."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from training.concepts import NAMES
from training.synthetic import demo_speech
from training.synthetic.demo_timeline import FPS, FRAMES, MOVES, aside, curve, times_s

DEMO = Path(__file__).parents[2] / "examples" / "demo"


@dataclass(frozen=True, slots=True)
class Truth:
    header: tuple[str, ...]
    table: npt.NDArray[np.float64]

    def column(self, name: str) -> npt.NDArray[np.float64]:
        return np.asarray(self.table[:, self.header.index(name)])


@pytest.fixture(scope="module")
def truth() -> Truth:
    with (DEMO / "truth.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    return Truth(tuple(header), np.array(rows, np.float64))


@pytest.fixture(scope="module")
def grey() -> npt.NDArray[np.float32]:
    """Luma of every frame at a quarter of its size [FRAMES, 90, 160]."""
    with av.open(str(DEMO / "demo.mp4")) as file:
        small = [frame.reformat(160, 90, "gray").to_ndarray() for frame in file.decode(video=0)]
    return np.stack(small).astype(np.float32)


def test_the_clip_is_what_the_readme_says() -> None:
    with av.open(str(DEMO / "demo.mp4")) as file:
        video, audio = file.streams.video[0], file.streams.audio[0]
        assert (video.codec_context.name, video.width, video.height) == ("h264", 640, 360)
        assert video.pix_fmt == "yuv420p" and video.average_rate == FPS and video.frames == FRAMES
        assert (audio.rate, audio.channels) == (demo_speech.RATE_HZ, 1)
    assert (DEMO / "demo.mp4").stat().st_size < 1_500_000


def test_the_truth_has_one_line_a_frame_and_the_concepts_in_their_order(
    truth: Truth, grey: npt.NDArray[np.float32]
) -> None:
    assert truth.header == ("frame", "t_s", "present", "speaking", *NAMES)
    assert len(truth.table) == len(grey) == FRAMES
    np.testing.assert_array_equal(truth.column("frame"), np.arange(FRAMES))
    np.testing.assert_allclose(truth.column("t_s"), times_s(), atol=1e-4)
    activations = truth.table[:, 4:]
    assert ((activations >= 0) & (activations <= 1)).all()


@pytest.mark.parametrize("name", sorted({m.concept for m in MOVES} - {"AU26", "AU25"}))
def test_the_truth_follows_the_timeline(truth: Truth, name: str) -> None:
    """Speech opens the jaw as well, and a slow sway turns the head; all else is the timeline and nothing more."""
    tolerance = 0.12 if name.startswith("head") else 1e-3
    seen = aside(times_s()) == 0
    np.testing.assert_allclose(truth.column(name)[seen], curve(name, times_s())[seen], atol=tolerance)


def test_the_jaw_follows_the_timeline_and_the_voice(truth: Truth) -> None:
    asked, shown = curve("AU26", times_s()), truth.column("AU26")
    silent = truth.column("speaking") == 0
    np.testing.assert_allclose(shown[silent], asked[silent], atol=1e-3)
    assert (shown[~silent] > 0.1).mean() > 0.5 and shown[~silent].std() > 0.05
    assert np.corrcoef(truth.column("AU25"), shown)[0, 1] > 0.8


def test_the_person_is_in_the_picture_exactly_when_the_truth_says(truth: Truth, grey: npt.NDArray[np.float32]) -> None:
    away = truth.column("present") == 0
    assert 1.2 <= away.sum() / FPS <= 2.0
    empty = grey[np.argmax(aside(times_s()))]
    changed = np.abs(grey - empty).mean(axis=(1, 2))
    assert 3 * changed[away].max() < changed[~away].min()


def test_closed_eyes_change_the_eyes_of_the_picture(truth: Truth, grey: npt.NDArray[np.float32]) -> None:
    closed = truth.column("AU45") > 0.99
    held = np.flatnonzero(closed & (times_s() > 12.9) & (times_s() < 13.5))
    before = np.flatnonzero((times_s() > 12.53) & (times_s() < 12.6))
    eyes, cheek = (slice(34, 41), slice(67, 96)), (slice(43, 51), slice(66, 75))
    change = np.abs(grey[held].mean(axis=0) - grey[before].mean(axis=0))
    assert change[eyes].mean() > 2 * change[cheek].mean()


def test_one_hears_a_voice_when_the_truth_says_so_and_a_quiet_room_else(truth: Truth) -> None:
    with av.open(str(DEMO / "demo.mp4")) as file:
        samples = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
    hop = demo_speech.RATE_HZ // FPS
    rms = np.sqrt((samples[: FRAMES * hop].reshape(FRAMES, hop) ** 2).mean(axis=1))
    speaking = truth.column("speaking") == 1
    # The codec smears a few milliseconds over the ends of a sentence.
    near = np.convolve(speaking, np.ones(5), mode="same") > 0
    assert np.median(rms[speaking]) > 0.03
    assert rms[~near].max() < 0.01
    assert 3 < speaking.sum() / FPS < 8


def test_without_espeak_the_user_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(demo_speech.SpeechError, match="apt-get install espeak-ng"):
        demo_speech.speak()
