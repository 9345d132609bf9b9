"""The score refitted to a user's own labels: causes are found again, what is written runs, mistakes are one line."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from calibration.labelled import LabelError, read_labels
from calibration.refit import taps_of
from engines.fusion import MemorySpec
from engines.spec import MODELS_DIR, load_model_file, load_voice_file
from engines.timed import TimedHead
from engines.voice import CONCEPTS as VOICES

ROOT = Path(__file__).parents[2]
MODEL = "agcm-av-live"
FRAMES, RATE_HZ = 600, 25
needs_model = pytest.mark.skipif(not (MODELS_DIR / MODEL / "manifest.json").is_file(), reason=f"no models/{MODEL}")


def slow(rng: np.random.Generator, columns: int) -> np.ndarray:
    """Courses in [0, 1] that change within a second or so [FRAMES, columns]."""
    rough = rng.uniform(0, 1, (FRAMES // 20 + 2, columns))
    return np.stack([np.interp(np.arange(FRAMES) / 20, np.arange(len(rough)), each) for each in rough.T], axis=1)


def session(folder: Path, seed: int, *, sound: bool = True, ending: str = "parquet", model: str = "") -> str:
    """A made recording in which AU12 and speaking cause engagement; the argument that names it."""
    file = load_model_file(MODEL)
    voice = load_voice_file(file)
    assert voice is not None
    names, voices = ([each.name for each in part] for part in (file.manifest.concepts, voice.manifest.concepts))
    rng = np.random.default_rng(seed)
    seen, heard = slow(rng, len(names)), slow(rng, len(voices))
    cause = 0.2 + 0.4 * seen[:, names.index("AU12")] + 0.3 * heard[:, voices.index("speaking")]
    t_ns = 10**12 + np.arange(FRAMES) * 10**9 // RATE_HZ
    table: dict[str, object] = {
        "t_capture_ns": t_ns,
        "status": ["tracked"] * FRAMES,
        "face": np.ones(FRAMES, np.int64),
        "model": [model or file.manifest.identity] * FRAMES,
    }
    for i, name in enumerate(names):
        table |= {f"{name}_activation": seen[:, i], f"{name}_contribution": 0.01 * rng.normal(size=FRAMES)}
    table |= {f"{name}_activation": heard[:, i] for i, name in enumerate(voices) if sound}
    path, labels = folder / f"session{seed}.{ending}", folder / f"labels{seed}.csv"
    if ending == "parquet":
        pa.parquet.write_table(pa.table(table), path)
    else:
        pa.csv.write_csv(pa.table(table), path)
    with labels.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["t_s", "engagement"])
        writer.writerows([[t / 1e9 - 1000, round(float(y), 4)] for t, y in zip(t_ns.tolist(), cause, strict=True)])
    return f"{path}={labels}"


def refit(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "calibration.refit", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@needs_model
@pytest.mark.parametrize("memory", [(), ("--taps", "2")])
def test_causes_are_found_again_with_and_without_sound(tmp_path: Path, memory: tuple[str, ...]) -> None:
    done = refit(*(session(tmp_path, seed) for seed in (1, 2, 3)), "--out", str(tmp_path / "ours"), *memory)
    assert done.returncode == 0, done.stderr
    assert "of the variance of labels that were left out" in done.stdout
    file = load_model_file("ours", tmp_path)
    timed = file.manifest.timed
    assert timed is not None
    assert timed.heard is not None
    names = [concept.name for concept in file.manifest.concepts]
    slope = np.array(timed.seen.weight)[:, 0].sum(1)  # of activations, over the taps
    assert slope[names.index("AU12")] == pytest.approx(0.4, abs=0.05)
    assert np.abs(np.delete(slope, names.index("AU12"))).max() < 0.05
    assert np.array(timed.heard.weight)[0, 0].sum() == pytest.approx(0.3, abs=0.05)
    head, rng = TimedHead(timed), np.random.default_rng(0)
    seen = rng.uniform(0, 1, (len(names), len(timed.usual_seen[0])))
    heard = rng.uniform(0, 1, len(timed.usual_heard))
    both, _ = head.score(seen, heard, 0, None)
    alone, _ = head.score(seen, None, 0, None)
    assert both.heard is not None
    assert alone.heard is None
    assert both.base == alone.base
    np.testing.assert_array_equal(both.seen, alone.seen)


@needs_model
def test_a_session_without_sound_is_refitted_from_what_is_seen(tmp_path: Path) -> None:
    done = refit(session(tmp_path, 4, sound=False, ending="csv"), "--out", str(tmp_path / "ours"))
    assert done.returncode == 0, done.stderr
    timed = load_model_file("ours", tmp_path).manifest.timed
    assert timed is not None
    assert timed.heard is None


@needs_model
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("none", "cannot read"),
        ("other model", "was recorded with other@000000000000"),
        ("no labels", "holds no label"),
        ("few", "100 are the least"),
        ("pair", "give a table and its labels"),
        ("column", "labels have the columns t_s and engagement"),
        ("range", "engagement lies between 0 and 1"),
        ("backwards", "does not go forward"),
        ("text", "'often' is no number"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, change: str, says: str) -> None:
    argument = session(tmp_path, 5, model="other@000000000000" if change == "other model" else "")
    table, labels = argument.split("=")
    lines = {
        "no labels": "t_s,engagement\n0,\n", "few": "t_s,engagement\n0,0.5\n1,\n", "column": "time,engagement\n0,1\n",
        "range": "t_s,engagement\n0,1.5\n", "backwards": "t_s,engagement\n1,0.5\n0,0.5\n",
        "text": "t_s,engagement\n0,often\n",
    }  # fmt: skip
    if change in lines:
        Path(labels).write_text(lines[change])
    argument = {"none": f"{tmp_path / 'none.parquet'}={labels}", "pair": table}.get(change, argument)
    done = refit(argument, "--out", str(tmp_path / "ours"))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert says in done.stderr
    assert not (tmp_path / "ours").exists()


@needs_model
def test_a_session_with_sound_for_a_while_counts_as_both(tmp_path: Path) -> None:
    """Sessions whose microphone is unplugged half-way: seen throughout, heard in the first half."""
    arguments = [session(tmp_path, seed) for seed in (6, 7, 8)]
    for path in (Path(each.split("=")[0]) for each in arguments):
        table = pa.parquet.read_table(path)
        for i, name in enumerate(table.column_names):
            if name.removesuffix("_activation") in VOICES:
                values = [value if row < FRAMES // 2 else None for row, value in enumerate(table[name].to_pylist())]
                table = table.set_column(i, name, pa.array(values, pa.float64()))
        pa.parquet.write_table(table, path)
    done = refit(*arguments, "--out", str(tmp_path / "ours"), "--taps", "1")
    assert done.returncode == 0, done.stderr
    assert "% from what is seen, " in done.stdout and "% with sound" in done.stdout
    timed = load_model_file("ours", tmp_path).manifest.timed
    assert timed is not None and timed.heard is not None
    assert np.array(timed.heard.weight)[0, 0].sum() == pytest.approx(0.3, abs=0.1)


def test_a_label_holds_until_the_next_and_an_empty_one_ends_it(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("t_s,engagement,note\n1,0.5,a\n2,,b\n3,1,c\n")
    t_s, label = read_labels(tmp_path / "labels.csv")
    assert t_s.tolist() == [1, 2, 3]
    assert np.isnan(label).tolist() == [False, True, False]
    with pytest.raises(LabelError, match="cannot read"):
        read_labels(tmp_path / "none.csv")


def test_the_past_is_as_it_is_remembered_live() -> None:
    values = np.random.default_rng(0).uniform(0, 1, (50, 3))
    t_ns = np.cumsum(np.full(50, 40_000_000))
    t_ns[30:] += 2_000_000_000  # a gap: a new beginning
    taps = taps_of(values, t_ns, np.zeros(3), MemorySpec(2, 0.5, 20.0))
    assert taps[..., 0] == pytest.approx(values)
    assert taps[30, :, 1:] == pytest.approx(np.zeros((3, 3)))
    assert (taps[29, :, 1] > 0.2).all()


def test_a_sound_that_stops_is_forgotten() -> None:
    values = np.ones((20, 1))
    values[10:15] = np.nan
    t_ns = np.cumsum(np.full(20, 40_000_000))
    taps = taps_of(values, t_ns, np.full(1, 0.2), MemorySpec(1, 0.5), np.isfinite(values[:, 0]))
    assert taps[10:15] == pytest.approx(np.full((5, 1, 2), 0.2))
    assert taps[9, 0, 1] > taps[15, 0, 1] > 0.2
