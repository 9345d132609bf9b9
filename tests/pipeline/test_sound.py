"""Sound from its socket, joined with the frames."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from pipeline.bus import Publisher, Subscriber
from pipeline.clock import now_ns
from pipeline.messages import AudioChunk, StreamEnd
from pipeline.sound import BEHIND_NS, Sound, unusable

CHUNK_NS = 100_000_000


@contextmanager
def _ends() -> Iterator[tuple[Publisher, Subscriber]]:
    with tempfile.TemporaryDirectory() as folder:
        endpoint = f"ipc://{Path(folder) / 'audio'}"
        with (
            Publisher(endpoint, bind=True, lossless=True) as sender,
            Subscriber(endpoint, ("audio", "stream_end")) as inbox,
        ):
            assert sender.wait_for_subscriber("audio", None, 5.0)
            yield sender, inbox


def _say(sender: Publisher, seq: int, t_ns: int, media_ns: int | None = None) -> None:
    samples = np.full(1600, 0.1, np.float32)
    chunk = AudioChunk(
        session="s",
        source="mic-0",
        seq=seq,
        t_capture_ns=t_ns,
        sample_rate_hz=16_000,
        samples=1600,
        media_ns=media_ns,
    )
    assert sender.send(chunk, memoryview(samples).cast("B"))


def _level(sound: Sound, t_ns: int) -> float | None:
    """Level of the sound that ends at `t_ns`."""
    heard = sound.at(t_ns + BEHIND_NS)
    return None if heard is None else heard.level_dbfs


def test_without_a_microphone_there_is_no_level_and_no_wait() -> None:
    for in_file_time in (False, True):
        sound = Sound(None, in_file_time=in_file_time, waits=in_file_time)
        sound.drain()
        assert sound.has(now_ns())
        assert _level(sound, now_ns()) is None


def test_live_sound_is_joined_by_the_clock_and_never_waited_for() -> None:
    with _ends() as (sender, inbox):
        sound, t_ns = Sound(inbox, in_file_time=False, waits=False), now_ns()
        assert _level(sound, t_ns) is None
        for seq in range(3):
            _say(sender, seq, t_ns + seq * CHUNK_NS)
        while _level(sound, t_ns + 2 * CHUNK_NS) is None:
            sound.drain()
        assert _level(sound, t_ns + 2 * CHUNK_NS) == pytest.approx(-20.0, abs=1e-4)


def test_sound_that_lags_belongs_to_an_earlier_picture() -> None:
    with _ends() as (sender, inbox):
        sound = Sound(inbox, in_file_time=True, waits=True, lag_ns=CHUNK_NS)
        for seq in range(3):
            _say(sender, seq, now_ns(), (seq + 1) * CHUNK_NS)
        while not sound.has(3 * CHUNK_NS):
            pass
        assert _level(sound, CHUNK_NS) == pytest.approx(-20.0, abs=1e-4)
        assert _level(sound, 3 * CHUNK_NS) == pytest.approx(-20.0, abs=1e-4)


def test_in_file_time_a_frame_waits_for_its_sound() -> None:
    with _ends() as (sender, inbox):
        sound = Sound(inbox, in_file_time=True, waits=True)
        assert not sound.has(2 * CHUNK_NS)
        for seq in range(3):
            _say(sender, seq, now_ns(), seq * CHUNK_NS)
        while not sound.has(2 * CHUNK_NS):
            pass
        assert _level(sound, 2 * CHUNK_NS) == pytest.approx(-20.0, abs=1e-4)
        sender.send(StreamEnd(session="s", source="mic-0", seq=3, stream="audio", reason="end_of_file"))
        while not sound.has(50 * CHUNK_NS):
            pass
        assert _level(sound, 50 * CHUNK_NS) is None, "the sound is over: no more waiting"


def test_a_device_beside_a_file_at_full_speed_has_no_place_in_it() -> None:
    with _ends() as (sender, inbox):
        sound = Sound(inbox, in_file_time=True, waits=True)
        _say(sender, 0, now_ns())
        while not sound.has(CHUNK_NS):
            pass
        assert _level(sound, CHUNK_NS) is None


def test_the_sound_of_a_file_is_taken_no_further_than_its_frames() -> None:
    with _ends() as (sender, inbox):
        sound = Sound(inbox, in_file_time=True, waits=True)
        for seq in range(20):
            _say(sender, seq, now_ns(), seq * CHUNK_NS)
        while not sound.has(2 * CHUNK_NS):
            pass
        sound.drain()
        waiting = inbox.receive(5000)
        assert waiting is not None
        assert waiting.message.seq == 2


def test_what_is_no_sound_is_left_out_and_told_once() -> None:
    with _ends() as (sender, inbox):
        sound, t_ns = Sound(inbox, in_file_time=False, waits=False), now_ns()
        for seq in range(3):
            _say(sender, seq, t_ns + seq * CHUNK_NS)
        broken = np.full(1600, np.nan, np.float32)
        for seq, rate_hz in ((3, 16_000), (4, 8_000)):
            chunk = AudioChunk(
                session="s", source="mic-0", seq=seq, t_capture_ns=t_ns + seq * CHUNK_NS, sample_rate_hz=rate_hz,
                samples=1600,
            )  # fmt: skip
            assert sender.send(chunk, memoryview(broken if seq == 3 else np.zeros(1600, np.float32)).cast("B"))
        said = []
        while sound.losses.get("sound_samples", 0) < 3200:
            sound.drain()
            said.append(sound.complaint(t_ns, None))
        assert [text for text in said if text] == ["sound from mic-0 is left out: it has samples that are not numbers"]
        assert _level(sound, t_ns + 3 * CHUNK_NS) == pytest.approx(-20.0, abs=1e-3)
        assert unusable(np.zeros(4, np.float32), 8_000) == "it has 8000 samples a second, and 16000 are heard"
