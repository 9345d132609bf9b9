"""Simulated sessions: the label is what its causes make of it, and the files are NoXi's."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import typer

pytest.importorskip("torch")
pytest.importorskip("numba")

from tests.training.test_voice_speech import utterance
from training.concepts import INDEX
from training.data.noxi import load as load_noxi
from training.data.noxi import people
from training.synthetic import noxi, talk
from training.synthetic.talk import CAUSES, FPS
from training.voice.speech import save

ICT_PATH = Path(__file__).parents[2].parent / "shared" / "data" / "ict_facekit_light.npz"
VOICES = ([utterance(0, 6)], [utterance(1, 6)])


def test_engagement_is_the_sum_of_what_causes_it() -> None:
    for part in talk.session(VOICES, 40.0, seed=3):
        assert len(part.engagement) == 40 * FPS == len(part.samples) // 640
        left = part.engagement - talk.START - part.contributions.sum(1)
        assert left.std() < 0.03
        for name, cause, course, share in zip(
            CAUSES, CAUSES.values(), part.courses.T, part.contributions.T, strict=True
        ):
            expected = cause.weight * talk.delayed(course.astype(float), cause.lag_s)
            np.testing.assert_allclose(share, expected, atol=1e-5, err_msg=name)


def test_who_speaks_is_heard_and_loud_as_said() -> None:
    one, two = talk.session(VOICES, 60.0, seed=4)
    speaking = list(CAUSES).index("speaking")
    assert not (one.courses[:, speaking] * two.courses[:, speaking]).any(), "they take turns"
    for part in (one, two):
        power = np.square(part.samples.reshape(-1, 640)).mean(1)
        spoken = part.courses[:, speaking] > 0
        assert power[spoken].mean() > 50 * power[~spoken].mean()
        loudness = part.courses[spoken, list(CAUSES).index("loudness")]
        high, low = loudness > 0.7, loudness < 0.3
        if high.any() and low.any():
            assert power[spoken][high].mean() > 4 * power[spoken][low].mean()
        assert part.concepts[spoken, INDEX["AU26"]].mean() > 1.5 * part.concepts[~spoken, INDEX["AU26"]].mean()


def test_the_same_seed_is_the_same_session() -> None:
    one, again, other = (talk.session(VOICES, 5.0, seed)[0].engagement for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.shared
def test_the_files_are_those_of_noxi(tmp_path: Path) -> None:
    if not ICT_PATH.exists():
        pytest.skip("the ICT-FaceKit model is not beside the checkout")
    save(tmp_path / "speech.npz", [*VOICES[0], *VOICES[1]])
    job = noxi.Job(ICT_PATH, tmp_path / "speech.npz", tmp_path / "sim", "val", "007", 1.0, 5)
    noxi.make(job)
    first, second = people(tmp_path / "sim", "valid")
    corpus = load_noxi(tmp_path / "sim", "valid", 25.0)
    assert [len(item.track) for item in corpus.items if item.track is not None] == [FPS, FPS]
    with av.open(str(first.file("video.mp4"))) as container:
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert len(frames) == FPS
    assert frames[0].std() > 10
    with np.load(second.file("truth.npz")) as truth:
        assert truth["names"].tolist() == list(CAUSES)
        assert truth["contributions"].shape == (FPS, len(CAUSES))
    before = first.file("video.mp4").stat().st_mtime_ns
    noxi.make(job)
    assert first.file("video.mp4").stat().st_mtime_ns == before, "what is there already stays"


def test_what_is_missing_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noxi, "_model", lambda path: None)
    save(tmp_path / "one.npz", list(VOICES[0]))
    for speech, words in (("none.npz", "labelled speech not found"), ("one.npz", "holds one voice")):
        with pytest.raises(typer.Exit) as stopped:
            noxi.main(tmp_path / "ict.npz", tmp_path / speech, tmp_path / "out")
        assert stopped.value.exit_code == 2
        message = capsys.readouterr().err.strip()
        assert words in message
        assert "\n" not in message
