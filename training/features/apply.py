"""Answer a table with an exported feature system: `python -m training.features.apply MODEL TABLE.csv --out FILE.csv`.

TABLE is what OpenFace 2, Py-Feat or `pipeline.export` write. Each row gets the answer and what every concept
contributed to it; heads, and so contributions, of expressions are logits. A row without a face stays empty.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import typer

from training.data.features import Angles, FeatureTable, read_csv
from training.data.pictures import DataError
from training.data.writing import replaced
from training.features.export import FeatureModel, answer
from training.features.fit import joined


def read_model(folder: Path) -> FeatureModel:
    """Raises DataError if the folder holds no feature system, or one whose file is another."""
    about = folder / "features.json"
    if not about.is_file():
        raise DataError(f"{folder} holds no feature system (features.json is missing); training.features writes one")
    try:
        found = msgspec.json.decode(about.read_bytes(), type=FeatureModel)
    except msgspec.MsgspecError as error:
        raise DataError(f"{about}: {error}") from error
    file = folder / found.file
    if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != found.sha256:
        raise DataError(f"{file} is not the file that {about.name} describes; export it again")
    return found


def answered(model: FeatureModel, folder: Path, table: FeatureTable) -> Iterator[list[str]]:
    """The rows of the answer, the names of the columns first."""
    heads, shares = answer(str(folder / model.file), joined(table.activations, table.weights))
    names = [f"{concept}_contribution" for concept in model.columns]
    yield ["row", "name", "time_s", "answer", *model.outputs, "explained", *names]
    for i, (name, time_s) in enumerate(zip(table.names, table.times_s, strict=True)):
        start = [str(i), name, "" if np.isnan(time_s) else f"{time_s:.6g}"]
        if not table.found[i]:
            yield [*start, *[""] * (2 + len(model.outputs) + len(names))]
            continue
        top = int(heads[i].argmax())
        said = model.outputs[top] if model.task == "expression" else f"{heads[i, 0]:.6g}"
        values = (f"{value:.6g}" for value in heads[i])
        yield [*start, said, *values, model.outputs[top], *(f"{share:.6g}" for share in shares[i, :, top])]


def main(
    model: Annotated[Path, typer.Argument(help="folder of an exported feature system, for example models/NAME")],
    table: Annotated[Path, typer.Argument(help="CSV of OpenFace 2, Py-Feat or pipeline.export")],
    out: Annotated[Path, typer.Option(help="where to write the answers")],
    angles: Annotated[Angles, typer.Option(help="unit of Py-Feat's angles, where the table leaves it open")] = "auto",
) -> None:
    """The answer of every row, and what each concept contributed to it."""
    try:
        about = read_model(model)
        with replaced(out) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            read = read_csv(table, angles)
            csv.writer(file).writerows(answered(about, model, read))
    except DataError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    faces = f"{int(read.found.sum())} of {len(read)} rows have a face"
    typer.echo(f"wrote {out}: {faces}")


if __name__ == "__main__":
    typer.run(main)
