"""Test the explanations of an exported model: `python -m training.explain`; see docs/explanations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engines.base import EngineError
from engines.spec import ManifestError, model_at
from training.data.pictures import DataError
from training.explain.report import write
from training.explain.run import Request, explain
from training.synthetic import ict

_DATA, _OUT = Path("runs/data"), Path("docs/explanations")
_ICT, _ORIGINALS = Path("runs/corpora/ict_facekit_light.npz"), Path("runs/corpora/wacv2016")
app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    model: Annotated[str, typer.Option(help="a folder under models/, or a path with a / in it")] = "agcm-live",
    data: Annotated[Path, typer.Option(help="folder with the prepared crops and the teacher's labels")] = _DATA,
    ict_path: Annotated[
        Path, typer.Option("--ict", help="ICT-FaceKit npz, for landmark-only maps and pointing")
    ] = _ICT,
    originals: Annotated[Path, typer.Option(help="WACV 2016 folder, for the original size of the faces")] = _ORIGINALS,
    out: Annotated[Path, typer.Option(help="folder for README.md, figures.json and the pictures")] = _OUT,
    ablation: Annotated[
        list[str] | None, typer.Option(help="another model, whose maps are tested beside; may be given again")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="a few hundred pictures of each corpus")] = False,
    seed: Annotated[int, typer.Option(help="of every choice of pictures and of every random order")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="of the engine")] = 2,
) -> None:
    """Test the explanations of an exported model: sum, deletion, interventions, maps, concepts, groups.

    Writes a page with pictures. What is not there is left out and named: --ict and --originals are optional.
    """
    try:
        figures = explain(Request(model, tuple(ablation or ()), data, ict_path, originals, quick, seed, threads))
        page = write(out, figures, model_at(model).manifest.concepts)
    except (DataError, ManifestError, EngineError, ict.IctFileError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    except OSError as error:
        typer.echo(f"error: {out}: the report cannot be written there: {error.strerror}", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"wrote {page}")


if __name__ == "__main__":
    app()
