from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest

from pipeline.config import DEFAULT_FILE, ConfigError, LiveConfig, load


def error_of(path: Path | None = None, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, overrides)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "my.toml"


def test_the_file_of_defaults_is_the_defaults() -> None:
    assert tomllib.loads(DEFAULT_FILE.read_text()) == msgspec.to_builtins(LiveConfig())
    assert load(DEFAULT_FILE) == load() == LiveConfig()


def test_every_default_has_a_comment() -> None:
    settings = [line for line in DEFAULT_FILE.read_text().splitlines() if "=" in line and not line.startswith("#")]
    assert all("#" in line for line in settings)


def test_overrides_win_over_the_file_and_the_file_over_the_defaults(file: Path) -> None:
    file.write_text("[face]\nmax_faces = 2\nthreshold = 0.6\n[capture]\nfps_hz = 25\n")
    config = load(file, ["face.max_faces=3", "capture.camera=1", "session.purpose=a = b", "output.record="])
    assert config.face.max_faces == 3
    assert config.face.threshold == 0.6
    assert config.face.longest_px == LiveConfig().face.longest_px
    assert config.capture.fps_hz == 25.0
    assert config.capture.camera == "1", "text stays text even if it is digits"
    assert config.session.purpose == "a = b"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("face.max_face=2", "unknown setting face.max_face; did you mean face.max_faces?"),
        ("fase.max_faces=2", "unknown section fase; did you mean face?"),
        ("output.zzzz=2", "unknown setting output.zzzz; known: bind, record"),
        ("face.max_faces", "--set takes section.key=value"),
        ("max_faces=2", "--set takes section.key=value"),
        ("=2", "--set takes section.key=value"),
        ("face.max_faces=two", "face.max_faces = 'two': Expected int, got str"),
        ("face.max_faces=0", "face.max_faces = '0': Expected int >= 1"),
        ("face.threshold=1.5", "face.threshold = '1.5': Expected float < 1.0"),
        ("face.threshold=nan", "face.threshold = 'nan': Expected float > 0.0"),
        ("session.duration_s=inf", "session.duration_s = 'inf': expected a finite number"),
        ("session.duration_s=-1", "session.duration_s = '-1': Expected float >= 0.0"),
        ("capture.pace=fast", "capture.pace = 'fast': expected realtime or max"),
        ("capture.camera=", "capture.camera = ''"),
        ("capture.pace=max", "capture.pace = 'max' is for media files; camera '0' is a device"),
        ("capture.mic=file", "capture.mic = 'file' is the sound of a media file; camera '0' is a device"),
    ],
)
def test_a_bad_override_is_one_line_that_names_it(override: str, says: str) -> None:
    assert says in error_of(None, override)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[face]\nmax_faces = '2'", "face.max_faces = '2': Expected int, got str"),
        ("[face]\nmax_faces = 2.5", "face.max_faces = 2.5"),
        ("[capture]\ncamera = 0", "capture.camera = 0: Expected str, got int"),
        ("[camera]\nindex = 0", "unknown section camera"),
        ("[face.more]\nx = 1", "unknown setting face.more"),
        ("pace = 'max'", "setting 'pace' is outside of a section"),
        ("[face", "is not valid TOML"),
        ('[face]\n"max\\nfaces\\u001b" = 2', "unknown setting face.max faces"),
    ],
)
def test_a_bad_file_is_one_line_that_names_the_setting(file: Path, text: str, says: str) -> None:
    file.write_text(text)
    assert says in error_of(file)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert f"cannot read configuration {tmp_path / 'no.toml'}: No such file" in error_of(tmp_path / "no.toml")
    assert "Is a directory" in error_of(tmp_path)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "is not valid TOML" in error_of(binary)
