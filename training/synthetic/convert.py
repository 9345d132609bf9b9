"""ICT-FaceKit's meshes as one file: `python -m training.synthetic.convert ICT-FaceKit/FaceXModel --out ict.npz`.

The repository holds one OBJ a shape: the neutral face, `identityNNN` (one standard deviation of a person's shape), and
every other name an expression. All have the same vertices in the same order, so what is kept of a shape is how far it
moves each of them; half floats hold that to a fiftieth of a millimetre.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.progress import track

from training.data.pictures import DataError
from training.data.writing import replaced

F32 = npt.NDArray[np.float32]
NEUTRAL = "generic_neutral_mesh"
_IDENTITY = re.compile(r"identity\d{3}")


def read_obj(path: Path) -> tuple[F32, npt.NDArray[np.int32]]:
    """Vertices [V, 3] and faces [F, 4], -1 where a face has three corners. Raises DataError naming the line."""
    vertices: list[list[float]] = []
    faces: list[list[int]] = []
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(text.splitlines(), 1):
        cells = line.split()
        try:
            if cells[:1] == ["v"]:
                vertices.append([float(cell) for cell in cells[1:4]])
            elif cells[:1] == ["f"]:
                corners = [int(cell.partition("/")[0]) - 1 for cell in cells[1:]]
                faces.append([*corners, -1] if len(corners) == 3 else corners)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}") from error
    if not vertices or {len(row) for row in vertices} != {3} or {len(row) for row in faces} - {4}:
        raise DataError(f"{path} is no mesh of vertices (x y z) and faces of three or four corners")
    return np.array(vertices, np.float32), np.array(faces, np.int32).reshape(-1, 4)


def convert(folder: Path) -> dict[str, npt.NDArray[np.generic]]:
    """The arrays that training.synthetic.ict reads. Raises DataError if the folder is another."""
    paths = {path.stem: path for path in sorted(folder.glob("*.obj"))}
    if NEUTRAL not in paths:
        raise DataError(f"{folder} holds no {NEUTRAL}.obj; give the folder FaceXModel of ICT-FaceKit")
    neutral, quads = read_obj(paths.pop(NEUTRAL))
    deltas = {}
    for name, path in track(paths.items(), description="reading shapes"):
        vertices, _ = read_obj(path)
        if len(vertices) != len(neutral):
            raise DataError(f"{path} has {len(vertices)} vertices, {NEUTRAL}.obj has {len(neutral)}")
        deltas[name] = (vertices - neutral).astype(np.float16)
    people = [name for name in deltas if _IDENTITY.fullmatch(name)]
    moves = [name for name in deltas if name not in people]
    if not people or not moves:
        raise DataError(f"{folder} holds {len(people)} identities and {len(moves)} expressions; both are needed")
    return {
        "neutral": neutral,
        "quads": quads,
        "expression_names": np.array(moves),
        "expression_deltas": np.stack([deltas[name] for name in moves]),
        "identity_names": np.array(people),
        "identity_deltas": np.stack([deltas[name] for name in people]),
    }


def main(
    folder: Annotated[Path, typer.Argument(help="the folder FaceXModel of ICT-FaceKit")],
    out: Annotated[Path, typer.Option(help="npz to write")],
) -> None:
    """Pack the meshes of ICT-FaceKit into the file that rendering and training read."""
    try:
        arrays = convert(folder)
        with replaced(out) as partial, partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
    except DataError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    counts = f"{len(arrays['identity_names'])} identities, {len(arrays['expression_names'])} expressions"
    typer.echo(f"wrote {out}: {len(arrays['neutral'])} vertices, {counts}")


if __name__ == "__main__":
    typer.run(main)
