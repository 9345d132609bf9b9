"""Simulated sessions in NoXi's layout: `python -m training.synthetic.noxi --ict ICT --speech SPEECH --out FOLDER`.

FOLDER/{train,val}/SESSION/{expert,novice}.{video.mp4, audio.wav, engagement.annotation.csv, truth.npz}: rendered
faces, recorded speech, and an engagement whose causes are known (training.synthetic.talk; `truth.npz` holds them). The
faces of a session have the voices of two different people. Nothing that is measured on it says anything about people.
"""

from __future__ import annotations

import multiprocessing
import wave
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Annotated, Final

import av
import numpy as np
import typer
from rich.progress import track

from engines.voice import RATE_HZ
from training.concepts import NAMES, PITCH_FULL_DEG, YAW_FULL_DEG
from training.data.noxi import ROLES, VALID_SESSIONS
from training.data.pictures import DataError
from training.data.writing import replaced
from training.synthetic import ict, look, sample, scene, talk
from training.synthetic.talk import CAUSES, FPS, Part
from training.voice.compose import by_voice
from training.voice.speech import load

SIZE_PX: Final = 192
_WORKERS: Final = 2


@dataclass(frozen=True, slots=True)
class Job:
    """One session; seed, split and name alone decide it."""

    ict_path: Path
    speech: Path
    out: Path
    split: str
    name: str
    seconds: float
    seed: int


def pictures(model: ict.FaceModel, where: look.Masks, part: Part, seed: int) -> list[scene.U8]:
    """The frames of one person [T] of luma [SIZE_PX, SIZE_PX]: the same face, light, camera and room throughout."""
    rng = np.random.default_rng(seed)
    person = model.identity(0.8 * sample.identity(rng))
    painted = look.paint(model, where, look.random_style(rng), rng)
    camera, light = sample.camera(rng, SIZE_PX), sample.light(rng)
    backdrop = sample.backdrop(rng, SIZE_PX)
    sway = np.cumsum(rng.normal(0, 0.15, (len(part.concepts), 3)), axis=0)
    sway -= np.linspace(0, 1, len(sway))[:, None] * sway[-1]
    found = []
    for concepts, (x, y, z) in zip(part.concepts, sway, strict=True):
        shown = dict(zip(NAMES, concepts.tolist(), strict=True))
        weights = model.weights(ict.concept_weights({name: value for name, value in shown.items() if value > 0}))
        yaw = YAW_FULL_DEG * (shown["head_left"] - shown["head_right"]) + float(x)
        pitch = PITCH_FULL_DEG * (shown["head_up"] - shown["head_down"]) + float(y)
        pose = scene.Pose(yaw, pitch, float(z))
        shot = scene.render(model, model.express(person, weights), painted, pose, (camera, light), backdrop)
        found.append(scene.to_luma(shot.picture[..., 0]))
    return found


def write_video(path: Path, frames: list[scene.U8]) -> None:
    """Grey frames as H.264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS), options={"crf": "18", "preset": "veryfast"})
        stream.width = stream.height = SIZE_PX
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode(None))


def write_sound(path: Path, samples: talk.F32) -> None:
    """16 kHz mono, 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(np.rint(samples.clip(-1, 1) * 32767).astype("<i2").tobytes())


def make(job: Job) -> str:
    """Write one session; what is there already stays."""
    folder = job.out / job.split / job.name
    if (folder / f"{ROLES[1]}.truth.npz").is_file():
        return job.name
    model, where = _model(job.ict_path)
    voices = list(by_voice(load(job.speech)).values())
    rng = np.random.default_rng(job.seed)
    chosen = rng.permutation(len(voices))[:2]
    parts = talk.session((voices[int(chosen[0])], voices[int(chosen[1])]), job.seconds, job.seed)
    folder.mkdir(parents=True, exist_ok=True)
    for i, (role, part) in enumerate(zip(ROLES, parts, strict=True)):
        write_video(folder / f"{role}.video.mp4", pictures(model, where, part, 1000 * job.seed + i))
        write_sound(folder / f"{role}.audio.wav", part.samples)
        lines = "\n".join(f"{value:.6f}" for value in part.engagement)
        (folder / f"{role}.engagement.annotation.csv").write_text(lines + "\n", encoding="utf-8")
        with replaced(folder / f"{role}.truth.npz") as partial, partial.open("wb") as file:
            np.savez_compressed(
                file, allow_pickle=False, names=np.array(list(CAUSES)), courses=part.courses,
                contributions=part.contributions, concepts=part.concepts,
            )  # fmt: skip
    return job.name


def check_voices(speech: Path) -> None:
    """Raises DataError if there are not the two voices of a session."""
    if len(by_voice(load(speech))) < 2:
        raise DataError(f"{speech} holds one voice; a session needs two")


@cache
def _model(path: Path) -> tuple[ict.FaceModel, look.Masks]:
    model = ict.load(path)
    return model, look.masks(model)


def main(
    ict_path: Annotated[Path, typer.Option("--ict", help="ICT-FaceKit npz")],
    speech: Annotated[Path, typer.Option(help="labelled speech of training.voice.label")],
    out: Annotated[Path, typer.Option(help="folder to write; finished sessions in it are kept")],
    train: Annotated[int, typer.Option(min=2, help="sessions to learn from")] = 8,
    valid: Annotated[int, typer.Option(min=1, max=len(VALID_SESSIONS), help="sessions to measure on")] = 3,
    seconds: Annotated[float, typer.Option(min=2.0, help="length of a session")] = 60.0,
    seed: Annotated[int, typer.Option(help="of everything")] = 1,
) -> None:
    """Simulate sessions of two people: faces, voices, engagement, and the truth about its causes."""
    names = [("train", f"{i:03d}") for i in range(100, 100 + train)]
    names += [("val", name) for name in VALID_SESSIONS[:valid]]
    jobs = [Job(ict_path, speech, out, split, name, seconds, 100 * seed + i) for i, (split, name) in enumerate(names)]
    try:
        _model(ict_path)
        check_voices(speech)
        with multiprocessing.get_context("spawn").Pool(_WORKERS) as pool:
            for _ in track(pool.imap_unordered(make, jobs), description="sessions", total=len(jobs)):
                pass
    except (DataError, ict.IctFileError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"wrote {out}: {train} sessions to learn from and {valid} to measure on, {seconds:g} s each; simulated")


if __name__ == "__main__":
    typer.run(main)
