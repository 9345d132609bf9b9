"""AU, head and gaze columns of OpenFace, Py-Feat and our own export: units, signs, and tables of another kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.training import layouts
from training.concepts import INDEX, NAMES
from training.data.features import FeatureTable, from_openface, openface_columns, read_csv
from training.data.pictures import DataError


def openface(folder: Path, **columns: float) -> FeatureTable:
    """One row of OpenFace's table."""
    return read_csv(layouts.openface_csv(folder / "o.csv", layouts.openface_rows(1, **columns)))


def on(table: FeatureTable, *only: str) -> dict[str, float]:
    """Concepts above zero in the first row, of a group by its beginning."""
    row = {name: float(table.activations[0, INDEX[name]]) for name in NAMES if name.startswith(only or ("",))}
    return {name: round(value, 3) for name, value in row.items() if value > 0}


def table(folder: Path, text: str) -> Path:
    path = folder / "t.csv"
    path.write_text(text)
    return path


def test_openface_has_as_many_columns_as_its_streams() -> None:
    columns = openface_columns()
    assert len(columns) == len(set(columns)) == 714
    assert columns[:5] == ("frame", "face_id", "timestamp", "confidence", "success")
    assert columns[-1] == "AU45_c"


def test_intensities_are_fifths_and_au28_is_presence(tmp_path: Path) -> None:
    read = openface(tmp_path, AU01_r=5.0, AU12_r=2.0, AU12_c=1.0, AU28_c=1.0, AU45_r=7.0)
    assert on(read, "AU") == {"AU1": 1.0, "AU12": 0.4, "AU28": 1.0, "AU45": 1.0}
    assert (read.weights == 1).all(), "every concept of ours has a column in OpenFace"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"pose_Ry": np.radians(20)}, {"head_right": 0.5, "gaze_left": 20 / 30}),
        ({"pose_Ry": -np.radians(20)}, {"head_left": 0.5, "gaze_right": 20 / 30}),
        ({"pose_Rx": -np.radians(15)}, {"head_up": 0.5, "gaze_down": 15 / 25}),
        ({"pose_Rx": np.radians(15)}, {"head_down": 0.5, "gaze_up": 15 / 25}),
        ({"gaze_angle_x": np.radians(15)}, {"gaze_left": 0.5}),
        ({"gaze_angle_x": -np.radians(15)}, {"gaze_right": 0.5}),
        ({"gaze_angle_y": np.radians(5)}, {"gaze_down": 0.2}),
        ({"gaze_angle_y": -np.radians(5)}, {"gaze_up": 0.2}),
        ({"pose_Ry": -np.radians(20), "gaze_angle_x": np.radians(20)}, {"head_left": 0.5}),
    ],
)
def test_signs_and_units_of_openface(tmp_path: Path, columns: dict[str, float], expected: dict[str, float]) -> None:
    """A head that turns while the eyes stay on the camera looks the other way in the head; one that the eyes go along
    with does not."""
    assert on(openface(tmp_path, **columns), "head", "gaze") == pytest.approx(expected, abs=2e-3)


def test_a_head_turns_as_openfaces_matrix_says() -> None:
    """R = Rx Ry Rz, x right and y down in the picture, z away from the camera: where the nose points."""

    def nose(rx: float, ry: float) -> np.ndarray:
        about_x = np.array([[1, 0, 0], [0, np.cos(rx), -np.sin(rx)], [0, np.sin(rx), np.cos(rx)]])
        about_y = np.array([[np.cos(ry), 0, np.sin(ry)], [0, 1, 0], [-np.sin(ry), 0, np.cos(ry)]])
        return about_x @ about_y @ np.array([0.0, 0.0, -1.0])

    assert nose(0.0, 0.3)[0] < 0, "to the picture's left, the person's own right"
    assert nose(-0.3, 0.0)[1] < 0, "up"


@pytest.mark.parametrize("lost", [{"success": 0.0}, {"confidence": 0.5}])
def test_a_lost_face_weighs_nothing(tmp_path: Path, lost: dict[str, float]) -> None:
    read = openface(tmp_path, AU12_r=5.0, **lost)
    assert not read.found.any()
    assert not read.weights.any()
    assert not read.activations.any()


def test_columns_that_are_not_there_weigh_nothing(tmp_path: Path) -> None:
    """Our own export in OpenFace's names has neither pose nor gaze, and empty cells where there was no face."""
    text = "frame,face_id,timestamp,confidence,success,AU12_r,AU28_c\n1,1,0.0,1.0,1,2.5,1.0\n2,1,0.04,0.0,0,,\n"
    read = read_csv(table(tmp_path, text))
    assert read.found.tolist() == [True, False]
    assert {NAMES[i] for i in np.nonzero(read.weights[0])[0]} == {"AU12", "AU28"}
    assert read.activations[0, INDEX["AU12"]] == 0.5
    assert not read.weights[1].any()
    assert read.times_s.tolist() == [0.0, 0.04]


def test_gaze_without_the_head_is_unknown(tmp_path: Path) -> None:
    read = read_csv(table(tmp_path, "confidence,success,gaze_angle_x,gaze_angle_y,AU12_r\n1,1,0.3,0.3,1\n"))
    assert {NAMES[i] for i in np.nonzero(read.weights[0])[0]} == {"AU12"}


PYFEAT = """input,approx_time,Identity,FaceScore,Pitch,Roll,Yaw,AU01,AU12,AU43
faces/a.jpg,00:01,Person_0,0.99,15.0,0.0,20.0,0.1,0.9,1.0
b.jpg,00:02,,,,,,,,
"""


def test_pyfeat_in_degrees(tmp_path: Path) -> None:
    read = read_csv(table(tmp_path, PYFEAT))
    assert on(read) == {"AU1": 0.1, "AU12": 0.9, "AU45": 1.0, "head_up": 0.5, "head_right": 0.5}
    assert read.names.tolist() == ["faces/a.jpg", "b.jpg"]
    assert read.found.tolist() == [True, False]
    known = {NAMES[i] for i in np.nonzero(read.weights[0])[0]}
    assert known == {"AU1", "AU12", "AU45", "head_left", "head_right", "head_up", "head_down"}


def test_pyfeat_of_unknown_unit_is_asked_for(tmp_path: Path) -> None:
    small = PYFEAT.replace("15.0", str(np.radians(15))).replace("20.0", str(np.radians(20)))
    with pytest.raises(DataError, match=r"no head angle exceeds 0\.35.*--angles degrees, radians or ignore"):
        read_csv(table(tmp_path, small))
    assert on(read_csv(table(tmp_path, small), "radians"), "head") == {"head_up": 0.5, "head_right": 0.5}
    ignored = read_csv(table(tmp_path, small), "ignore")
    assert not ignored.weights[:, INDEX["head_up"]].any()


def test_our_own_export_is_activations_already(tmp_path: Path) -> None:
    text = "status,score,AU12_activation,gaze_left_activation\ntracked,0.5,0.7,0.2\nno_face,,,\nlow_quality,,0.9,0.1\n"
    read = read_csv(table(tmp_path, text))
    assert on(read) == {"AU12": 0.7, "gaze_left": 0.2}
    assert read.found.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no rows"),
        ("frame, confidence, success, AU12_r\n", "has no rows"),
        ("time,valence\n1,2\n", r"has no AU columns: expected AU01_r .* it has time, valence"),
        ("frame,AU12_r\n1,2\n", r"looks like a table of OpenFace but has no column confidence, success"),
        ("AU12,Pitch,Yaw\n0.5,1,2\n", r"looks like a table of Py-Feat but has no column FaceScore"),
        ("AU12_activation\n0.5\n", r"pipeline\.export but has no column status"),
        ("confidence,success,AU12_r\n1,1,high\n", r"line 2: AU12_r is 'high', no number"),
        ("confidence,success,AU12_r\n1,1\n", r"line 2: 2 columns, the header has 3"),
    ],
)
def test_a_wrong_table_is_one_clear_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as error:
        read_csv(table(tmp_path, text))
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_numbers_without_a_header_must_be_openfaces(tmp_path: Path) -> None:
    rows = layouts.openface_rows(3, AU12_r=2.5)
    assert from_openface(rows, tmp_path).activations[:, INDEX["AU12"]].tolist() == [0.5] * 3
    with pytest.raises(DataError, match="713 columns; OpenFace 2 writes 714"):
        from_openface(rows[:, 1:], tmp_path)
