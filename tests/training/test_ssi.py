"""SSI feature streams: what is written is read, and what is cut off is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.training import layouts
from training.data.pictures import DataError
from training.data.ssi import read_stream


def made(folder: Path) -> Path:
    values = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    return layouts.stream(folder / "novice.audio.egemapsv2.stream", values, 100.0)


def data(path: Path) -> Path:
    return path.with_name(path.name + "~")


def test_a_stream_of_two_chunks_is_read_whole(tmp_path: Path) -> None:
    stream = read_stream(made(tmp_path))
    assert stream.rate_hz == 100
    expected = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    np.testing.assert_array_equal(stream.values, expected)


def test_doubles_and_text_are_read_as_well(tmp_path: Path) -> None:
    path = made(tmp_path)
    values = read_stream(path).values
    path.write_text(path.read_text().replace('byte="4" type="FLOAT"', 'byte="8" type="DOUBLE"'))
    data(path).write_bytes(values.astype("<f8").tobytes())
    np.testing.assert_array_equal(read_stream(path).values, values)
    path.write_text(path.read_text().replace("BINARY", "ASCII").replace('delim=" "', 'delim=";"'))
    data(path).write_text("\n".join(";".join(f"{value:.9f}" for value in row) for row in values))
    np.testing.assert_allclose(read_stream(path).values, values, rtol=1e-5)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: data(p).write_bytes(b""), r"egemapsv2\.stream~: is empty \(0 bytes\)"),
        (lambda p: data(p).unlink(), r"needs the file .*stream~, which is missing"),
        (lambda p: data(p).write_bytes(data(p).read_bytes()[:-12]), r"stream~: 6 rows of 3 numbers, its header says 7"),
        (lambda p: p.unlink(), r"needs the file .*egemapsv2\.stream, which is missing"),
        (lambda p: p.write_text("no xml"), r"is no SSI stream header"),
        (lambda p: p.write_bytes(b""), r"is no SSI stream header"),
        (lambda p: p.write_text("<stream/>"), r"has no <info>"),
        (lambda p: p.write_text(p.read_text().replace('dim="3" ', "")), r"is no SSI stream header \('dim'\)"),
        (lambda p: p.write_text(p.read_text().replace("FLOAT", "COLOUR")), r"type COLOUR"),
        (lambda p: p.write_text(p.read_text().replace('byte="4" type', 'byte="8" type')), r"FLOAT in 8 bytes"),
        (lambda p: p.write_text(p.read_text().replace('sr="100.000"', 'sr="0"')), r"rate 0 Hz"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, spoil: Callable[[Path], object], words: str) -> None:
    path = made(tmp_path)
    spoil(path)
    with pytest.raises(DataError, match=words) as error:
        read_stream(path)
    assert "\n" not in str(error.value)
