"""The table of concepts for a model card, from the manifest: `python -m training.card --model agcm-live`."""

from __future__ import annotations

from typing import Annotated

import typer

from engines.spec import ManifestError, load_model_file


def table(model: str) -> str:
    """Markdown: concept, meaning, correlation with its reference on held-out pictures, and which reference."""
    rows = ["| concept | meaning | r | reference |", "|---|---|---|---|"]
    for concept in load_model_file(model).manifest.concepts:
        r = "not measured" if concept.reliability is None else f"{concept.reliability:.2f}"
        rows.append(f"| {concept.name} | {concept.meaning} | {r} | {concept.reference or '–'} |")
    return "\n".join(rows)


def main(model: Annotated[str, typer.Option(help="a folder under models/")] = "agcm-live") -> None:
    """Print what each concept of a model means, and how well it is recognised, as a Markdown table."""
    try:
        typer.echo(table(model))
    except ManifestError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
