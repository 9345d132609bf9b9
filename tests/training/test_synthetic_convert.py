"""Meshes as ICT-FaceKit releases them become the file that is read here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import typer

from training.synthetic import convert, ict

ICT_PATH = Path(__file__).parents[2].parent / "shared" / "data" / "ict_facekit_light.npz"


def mesh(path: Path, vertices: npt.NDArray[np.floating], faces: str) -> None:
    lines = [f"v {x:.6g} {y:.6g} {z:.6g}" for x, y, z in vertices]
    path.write_text("# a comment\nmtllib none.mtl\n" + "\n".join(lines) + f"\nvt 0.5 0.5\n{faces}\n")


def meshes(folder: Path, neutral: npt.NDArray[np.floating], faces: str = "f 1/1/1 2/2/2 3/3/3 4/4/4\nf 1 2 3") -> Path:
    folder.mkdir(exist_ok=True)
    shapes = {convert.NEUTRAL: 0.0, "identity000": 1.0, "identity001": -1.0, "jawOpen": 0.5, "browDown_L": 0.25}
    for name, moved in shapes.items():
        mesh(folder / f"{name}.obj", neutral + moved, faces)
    return folder


def test_shapes_are_kept_as_what_they_move(tmp_path: Path) -> None:
    neutral = np.arange(12.0).reshape(4, 3)
    found = convert.convert(meshes(tmp_path / "m", neutral))
    np.testing.assert_array_equal(found["neutral"], neutral)
    np.testing.assert_array_equal(found["quads"], [[0, 1, 2, 3], [0, 1, 2, -1]])
    assert found["expression_names"].tolist() == ["browDown_L", "jawOpen"]
    assert found["identity_names"].tolist() == ["identity000", "identity001"]
    assert found["expression_deltas"][:, 0, 0].tolist() == [0.25, 0.5]
    assert found["identity_deltas"][:, 3, 2].tolist() == [1.0, -1.0]


@pytest.mark.shared
def test_the_file_is_the_model_that_was_packed(tmp_path: Path) -> None:
    """Two shapes of the real model, written as meshes and packed again."""
    if not ICT_PATH.exists():
        pytest.skip("the ICT-FaceKit model is not beside the checkout")
    with np.load(ICT_PATH) as real:
        arrays = {name: real[name] for name in ("neutral", "quads", "expression_names", "expression_deltas")}
        person = real["identity_deltas"][0].astype(np.float32)
    faces = "\n".join("f " + " ".join(str(i + 1) for i in face if i >= 0) for face in arrays["quads"])
    jaw = arrays["expression_names"].tolist().index("jawOpen")
    moved = arrays["neutral"] + arrays["expression_deltas"][jaw].astype(np.float32)
    for name, vertices in (
        (convert.NEUTRAL, arrays["neutral"]), ("jawOpen", moved), ("identity000", arrays["neutral"] + person)
    ):  # fmt: skip
        mesh(tmp_path / f"{name}.obj", vertices, faces if name == convert.NEUTRAL else "")
    convert.main(tmp_path, tmp_path / "packed.npz")
    ours, theirs = ict.load(tmp_path / "packed.npz"), ict.load(ICT_PATH)
    np.testing.assert_array_equal(ours.triangles, theirs.triangles)
    np.testing.assert_allclose(ours.neutral, theirs.neutral, atol=1e-4)
    np.testing.assert_allclose(ours.expression_deltas[0], theirs.expression_deltas[jaw], atol=2e-3)
    np.testing.assert_allclose(ours.identity_deltas[0], theirs.identity_deltas[0], atol=2e-3)


def test_what_is_wrong_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told() -> str:
        with pytest.raises(typer.Exit) as stopped:
            convert.main(tmp_path / "m", tmp_path / "out.npz")
        assert stopped.value.exit_code == 2
        assert not (tmp_path / "out.npz").exists()
        message = capsys.readouterr().err.strip()
        assert "\n" not in message
        return message

    assert "holds no generic_neutral_mesh.obj; give the folder FaceXModel" in told()
    folder = meshes(tmp_path / "m", np.zeros((4, 3)))
    mesh(folder / "jawOpen.obj", np.zeros((3, 3)), "")
    assert "jawOpen.obj has 3 vertices, generic_neutral_mesh.obj has 4" in told()
    (folder / "jawOpen.obj").write_text("v 1 2 three\n")
    assert "jawOpen.obj, line 1: could not convert" in told()
    (folder / "jawOpen.obj").write_text("v 1 2\n")
    assert "jawOpen.obj is no mesh" in told()
    for name in ("jawOpen", "browDown_L"):
        (folder / f"{name}.obj").unlink()
    assert "holds 2 identities and 0 expressions" in told()
