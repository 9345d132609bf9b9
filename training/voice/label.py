"""Let teachers label recorded speech: `python -m training.voice.label FOLDER --silero silero_vad.onnx --out FILE`."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track

from training.data.pictures import DataError
from training.voice.speech import Clip, Labelled, decode, find_clips, save
from training.voice.teachers import Silero, pitch, syllables

LEAST_S = 0.3


def label(found: tuple[str, Path], silero: Path) -> Labelled | None:
    """One recording with what the teachers say; None if it is too short to say anything."""
    voice, path = found
    clip = Clip(voice, path.stem, decode(path))
    if clip.steps < LEAST_S * 100:
        return None
    voiced, pitch_st = pitch(clip.samples)
    return Labelled(clip, Silero(silero)(clip.samples), voiced, pitch_st, syllables(clip.samples, voiced))


def main(
    folder: Annotated[Path, typer.Argument(help="recordings, one folder a voice")],
    silero: Annotated[Path, typer.Option(help="silero_vad.onnx of the PyPI package silero-vad 6.2.3")],
    out: Annotated[Path, typer.Option(help="labelled speech, for training.voice.train")],
    every: Annotated[int, typer.Option(min=1, help="take one recording in this many")] = 1,
    processes: Annotated[int, typer.Option(min=1, help="side by side")] = 2,
) -> None:
    """Speaking, voicing, pitch and syllables of every recording, step by step."""
    try:
        Silero(silero)
        paths = list(find_clips(folder))[::every]
        with ProcessPoolExecutor(processes) as pool:
            answers = pool.map(label, paths, repeat(silero), chunksize=4)
            clips = [each for each in track(answers, description="labelling", total=len(paths)) if each is not None]
        save(out, clips)
    except DataError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    hours = sum(each.clip.steps for each in clips) / 360_000
    typer.echo(f"wrote {out}: {len(clips)} clips of {len({each.clip.voice for each in clips})} voices, {hours:.2f} h")


if __name__ == "__main__":
    typer.run(main)
