"""From sessions to figures: simulated causes are found again, and what is written is what the challenge takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import typer

pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("numba")
pytest.importorskip("matplotlib")

from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.concept import read
from engines.fusion import TimedSpec
from engines.preprocess import to_tensor
from engines.spec import load_model_file
from engines.timed import TimedHead
from engines.voice import CONCEPTS as HEARD
from tests.training.test_voice_speech import utterance
from training.concepts import NAMES
from training.data.noxi import Person, people, read_track
from training.data.pictures import DataError
from training.evaluate import parts_of
from training.synthetic import talk
from training.synthetic.noxi import Job, make
from training.timed import noxi, participants, rivals, streams
from training.timed.streams import Streams, load, save
from training.voice.export import concepts_of
from training.voice.export import write as write_voice
from training.voice.model import Spoken, VoiceNet
from training.voice.speech import save as save_speech
from training.voice.train import VoiceFigures

ICT_PATH = Path(__file__).parents[2].parent / "shared" / "data" / "ict_facekit_light.npz"
VOICES = ([utterance(0, 6)], [utterance(1, 6)])


def simulated(folder: Path) -> dict[Path, Streams]:
    """Sessions without pictures and sound, and what perfect eyes and ears would tell of them, a little noisily."""
    found = {}
    rng = np.random.default_rng(0)
    names = [("train", f"{100 + i}") for i in range(5)] + [("val", "007"), ("val", "009"), ("test", "200")]
    for seed, (split, name) in enumerate(names):
        for role, part in zip(noxi_roles(), talk.session(VOICES, 40.0, seed), strict=True):
            stem = folder / split / name
            stem.mkdir(parents=True, exist_ok=True)
            if split != "test":
                values = "\n".join(f"{value:.6f}" for value in part.engagement)
                (stem / f"{role}.engagement.annotation.csv").write_text(values + "\n")
            np.savez(
                stem / f"{role}.truth.npz", names=np.array(list(talk.CAUSES)), contributions=part.contributions,
                courses=part.courses, concepts=part.concepts,
            )  # fmt: skip
            heard = np.zeros((len(part.concepts), len(HEARD)))
            for cause in talk.HEARD:
                heard[:, HEARD.index(cause)] = part.courses[:, list(talk.CAUSES).index(cause)]
            heard += rng.normal(0, 0.05, heard.shape)
            mixed = part.concepts.copy()  # a smile moves more than its own activation, as it does in every network
            for other, share in (("AU6", 0.9), ("AU14", 0.6), ("AU25", 0.4)):
                mixed[:, NAMES.index(other)] += share * part.concepts[:, NAMES.index("AU12")]
            seen = mixed[..., None] + rng.normal(0, 0.05, (*mixed.shape, 1))
            found[stem / role] = Streams(seen, np.ones(len(seen), bool), heard)
    return found


def noxi_roles() -> tuple[str, str]:
    from training.data.noxi import ROLES

    return ROLES


class Named:
    """Stands for an engine that is not asked."""

    class manifest:
        identity = "known@000000000000"
        reliabilities = (0.8,) * len(NAMES)


class NamedVoice:
    """The same, of a voice network."""

    class manifest:
        identity = "voice@000000000000"
        reliabilities = (0.8,) * len(HEARD)


@dataclass(frozen=True, slots=True)
class Known:
    """What came of simulated sessions, whose streams are known; folder: noxi/, out/, plot.png."""

    outcome: noxi.Outcome
    timed: TimedSpec
    streams: Mapping[Path, Streams]
    folder: Path


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    """The whole run on streams that are known, since no picture here is worth looking at."""
    folder = tmp_path_factory.mktemp("known")
    told_of = simulated(folder / "noxi")

    def listed(base: Path, split: str, *_: object) -> list[participants.Participant]:
        found = []
        for each in people(base, split):
            track = each.file("engagement.annotation.csv")
            label = read_track(track).astype(float) if split != "test" else np.full(40 * talk.FPS, np.nan)
            found.append(participants.Participant(each, told_of[each.stem], label))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noxi, "streams_of", listed)
        patch.setattr(noxi, "_RIVAL_STEPS", 30)
        eyes = noxi.Eyes(Named(), Named(), None)  # type: ignore[arg-type]  # nothing is looked at
        voice = NamedVoice()
        outcome, timed = noxi.run(
            folder / "noxi",
            eyes,
            voice,
            folder / "out",
            plot=folder / "plot.png",  # type: ignore[arg-type]  # as above
        )
    return Known(outcome, timed, told_of, folder)


def test_causes_are_found_again_and_both_senses_beat_one(known: Known) -> None:
    told, folder = known.outcome, known.folder
    figures = {each.way: each.ccc for each in told.figures}
    ways = {f"{way}, {how}" for way in noxi.WAYS for how in ("linear", "GRU", "TCN")}
    beside = ("told what faces show", "activations as they are", "pictures first")
    ways |= {f"V+A, linear, {how}" for how in (*beside, "and what they say to the shipped score")}
    assert set(figures) == ways | {"V, linear, never heard"}
    assert figures["V, linear"] > figures["V, linear, never heard"] - 0.05, "one head serves without sound as well"
    assert figures["V+A, linear"] > figures["V+A, linear, pictures first"] - 0.02
    assert figures["V+A, linear"] > 0.8
    assert figures["V+A, linear"] > max(figures["V, linear"], figures["A, linear"])
    assert told.simulated and told.read
    assert told.found is not None and told.found_told is not None and told.found_unread is not None
    assert told.found.wrong_signs == ()
    assert told.found.rank_r > 0.6
    assert told.found_told.rank_r >= told.found.rank_r - 0.2
    assert figures["V+A, linear, told what faces show"] > 0.8
    assert {each.concept for each in told.found.causes} == {*NAMES, *HEARD}
    true = {each.concept: each for each in told.found.causes}
    assert true["AU12"].r > 0.8
    as_they_are = {each.concept: each for each in told.found_unread.causes}
    assert abs(true["AU12"].found - true["AU12"].true) < abs(as_they_are["AU12"].found - true["AU12"].true)
    assert true["AU9"].found < 0.3 * true["AU12"].found, "a decoy counts little"
    noxi.show(told)
    assert (folder / "plot.png").stat().st_size > 20_000
    paths = sorted((folder / "out" / "predictions").rglob("*.csv"))
    assert [str(path.relative_to(folder / "out" / "predictions")) for path in paths] == [
        f"{name}/{role}.engagement.prediction.csv"
        for name in ("test/200", "val/007", "val/009")
        for role in noxi_roles()
    ]
    values = [float(line) for line in paths[0].read_text().splitlines()]
    assert len(values) == 40 * talk.FPS, "of sessions that nobody labelled, too"
    assert 0 <= min(values) <= max(values) <= 1


def test_what_was_learnt_scores_the_same_frame_by_frame(known: Known) -> None:
    """The head as a session runs it, against the predictions that were written."""
    head, before, scores = TimedHead(known.timed), None, []
    person = people(known.folder / "noxi", "valid")[0]
    stream = known.streams[person.stem]
    for frame, (seen, heard) in enumerate(zip(stream.seen, stream.heard, strict=True)):
        shares, before = head.score(seen, heard, round(1e9 * frame / talk.FPS), before)
        assert shares.heard is not None
        scores.append(shares.base + shares.seen.sum() + shares.heard.sum())
    name = f"{person.session}/{person.role}.engagement.prediction.csv"
    written = np.loadtxt(known.folder / "out" / "predictions" / "val" / name)
    np.testing.assert_allclose(np.clip(scores, 0, 1), written, atol=2e-6)


def test_one_ccc_over_everybody_is_not_the_mean_of_each() -> None:
    """Who differs only between sessions is right altogether, and wrong within each."""
    labels = [np.array([0.1, 0.12, np.nan]), np.array([0.8, 0.82, 0.84])]
    answers = [np.array([0.12, 0.1, 0.5]), np.array([0.84, 0.82, 0.8])]
    found = noxi.judged("x", answers, labels)
    assert found.ccc > 0.95
    assert found.per_session < 0


def test_of_many_frames_evenly_many_are_learnt_from(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    person = Person("100", "expert", Path("expert"))
    seen, heard, label = rng.random((100, 2, 1)), rng.random((100, 3)), rng.random(100)
    parts = [participants.Participant(person, Streams(seen, np.ones(100, bool), heard), label)] * 2
    assert participants.stride(parts) == 1
    monkeypatch.setattr(participants, "MOST_ROWS", 80)
    assert participants.stride(parts) == 3
    usual = participants.usual_of(parts)
    whole, thin = participants.sessions(parts, usual)[0], participants.sessions(parts, usual, 3)[0]
    for ours, theirs in zip(thin.taps, whole.taps, strict=True):
        np.testing.assert_array_equal(ours, theirs[::3])
    np.testing.assert_array_equal(thin.label, label[::3])


def test_streams_are_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ours = Streams(rng.random((3, 2, 4)), np.array([True, False, True]), rng.random((3, len(HEARD))))
    save(tmp_path / "a" / "s.npz", ours)
    again = load(tmp_path / "a" / "s.npz")
    np.testing.assert_allclose(again.seen, ours.seen, atol=1e-6)
    np.testing.assert_array_equal(again.found, ours.found)
    save(tmp_path / "old.npz", Streams(ours.seen, ours.found, ours.heard[:, :-1]))
    with pytest.raises(DataError, match=f"holds {len(HEARD) - 1} voice concepts, not {len(HEARD)}"):
        load(tmp_path / "old.npz")


def test_sessions_of_the_test_split_are_seen_without_labels(tmp_path: Path) -> None:
    (tmp_path / "noxi" / "test" / "200").mkdir(parents=True)
    ours = Streams(np.zeros((4, 2, 1)), np.ones(4, bool), np.zeros((4, len(HEARD))))
    for role in noxi_roles():
        save(tmp_path / "kept" / "test" / "200" / f"{role}.npz", ours)
    nobody = noxi.Eyes(Named(), Named(), None)  # type: ignore[arg-type]  # nothing is looked at: all is kept
    parts = participants.streams_of(tmp_path / "noxi", "test", nobody, NamedVoice(), tmp_path / "kept")  # type: ignore[arg-type]
    assert [part.person.role for part in parts] == list(noxi_roles())
    assert all(np.isnan(part.label).all() and len(part.label) == 4 for part in parts)


@pytest.mark.parametrize("name", list(rivals.RIVALS))
def test_a_rival_learns_what_is_late(name: str) -> None:
    rng = np.random.default_rng(0)
    series = [np.cumsum(rng.normal(size=(400, 3)), axis=0) / 10 for _ in range(4)]
    labels = [0.5 + 0.1 * np.concatenate([np.repeat(each[:1, 0], 10), each[:-10, 0]]) for each in series]
    answer = rivals.fitted(name, series[:3], labels[:3], steps=150, seed=0)
    assert np.corrcoef(answer(series[3])[50:], labels[3][50:])[0, 1] > 0.8
    with pytest.raises(ValueError, match="shorter than a window"):
        rivals.fitted(name, [series[0][:50]], [labels[0][:50]], steps=1, seed=0)


def test_a_missing_voice_network_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as stopped:
        noxi.main(tmp_path, tmp_path / "out", voice="nosuch")
    assert stopped.value.exit_code == 2
    assert "unknown model 'nosuch'" in capsys.readouterr().err


@pytest.mark.shared
def test_a_session_is_seen_and_heard_by_the_shipped_model(tmp_path: Path) -> None:
    """Rendered faces and a voice, through the detector and the model that ship, and a voice network as it is born."""
    if not ICT_PATH.exists():
        pytest.skip("the ICT-FaceKit model is not beside the checkout")
    save_speech(tmp_path / "speech.npz", [*VOICES[0], *VOICES[1]])
    make(Job(ICT_PATH, tmp_path / "speech.npz", tmp_path / "sim", "val", "007", 1.0, 5))
    figures = VoiceFigures(0.5, 0.5, 0.5, 0.0, 0.0, 0.5, 0.0, ("nobody",), 0.0)
    write_voice(Spoken(VoiceNet().eval()), concepts_of(figures), tmp_path / "models" / "voice")
    voice = OnnxRuntimeEngine(load_model_file("voice", tmp_path / "models"))
    file = load_model_file("agcm-live")
    crop, heads = parts_of(file.manifest)
    eyes = noxi.Eyes(OnnxRuntimeEngine(load_model_file("centerface")), OnnxRuntimeEngine(file), crop)
    parts = participants.streams_of(tmp_path / "sim", "valid", eyes, voice, tmp_path / "cache")
    assert [part.person.role for part in parts] == list(noxi_roles())
    for part in parts:
        assert part.streams.seen.shape == (talk.FPS, len(NAMES), 1 + len(heads.base))
        assert part.streams.heard.shape == (talk.FPS, len(HEARD))
        assert part.streams.found.mean() > 0.8
    crops = np.random.default_rng(0).integers(0, 256, (3, crop.size_px, crop.size_px), np.uint8)
    shares = streams.shares(eyes, crops)[:, :, 1].sum(1) - np.sum([row[0] for row in heads.mean]) + heads.base[0]
    scores = [each.score for each in read(eyes.model.infer({"crop": to_tensor(crops, crop)}), heads)]
    np.testing.assert_allclose(shares, scores, atol=1e-6, err_msg="W . c of the score adds up to the live score")
    again = participants.streams_of(tmp_path / "sim", "valid", eyes, voice, tmp_path / "cache")
    np.testing.assert_array_equal(again[0].streams.seen, parts[0].streams.seen)
