"""The demo clip and its ground truth: `python -m training.synthetic.demo --ict PATH --out examples/demo`."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import av
import numpy as np
import typer
from av.video.reformatter import ColorRange, Colorspace
from rich.progress import track

from training.concepts import CONCEPTS, NAMES, PITCH_FULL_DEG, YAW_FULL_DEG
from training.synthetic import demo_person, ict, scene
from training.synthetic.demo_person import HEIGHT_PX, WIDTH_PX
from training.synthetic.demo_speech import RATE_HZ, SpeechError, Voice, speak
from training.synthetic.demo_timeline import FPS, FRAMES, aside, curve, idle, times_s

_SPEECH_JAW: Final = 0.42
_SCALE_PX_PER_CM: Final = 10.4


@dataclass(frozen=True, slots=True)
class Script:
    """Everything that happens, frame by frame."""

    t_s: ict.F32
    weights: ict.F32  # [FRAMES, E]
    poses: tuple[scene.Pose, ...]
    cameras: tuple[scene.Camera, ...]


@dataclass(frozen=True, slots=True)
class Take:
    """One rendered frame with what it shows."""

    rgb: scene.U8  # [H, W, 3]
    concepts: ict.F32  # [26]
    present: bool


def script(model: ict.FaceModel, opening: ict.F32) -> Script:
    """The timeline as weights, poses and cameras; the mouth follows the voice's opening [FRAMES]."""
    t = times_s()
    named = {shape: curve(c.name, t) for c in CONCEPTS for shape in c.ict_shapes}
    named["jawOpen"] = np.maximum(named["jawOpen"], _SPEECH_JAW * opening)
    rounding = np.clip(idle(t, 0.62), 0, 1) * opening
    named["mouthFunnel"] = 0.35 * rounding
    named |= dict.fromkeys(("mouthLowerDown_L", "mouthLowerDown_R"), 0.35 * opening)
    weights = np.stack([named.get(name, np.zeros_like(t)) for name in model.expression_names], axis=1)
    away = aside(t)
    yaw = YAW_FULL_DEG * (curve("head_left", t) - curve("head_right", t)) + 2.0 * idle(t, 5.3) - 25 * away
    pitch = PITCH_FULL_DEG * (curve("head_up", t) - curve("head_down", t)) + 1.5 * idle(t, 4.1, 1) + 2 * opening
    roll = 2.0 * idle(t, 6.7, 2)
    x = WIDTH_PX / 2 + 10 * idle(t, 7.9, 3) - 580 * away
    y = HEIGHT_PX * 0.5 + 4 * idle(t, 4.7, 4)
    angles = zip(yaw, pitch, roll, strict=True)
    return Script(
        t,
        weights.astype(np.float32),
        tuple(scene.Pose(float(a), float(b), float(c)) for a, b, c in angles),
        tuple(
            scene.Camera(WIDTH_PX, HEIGHT_PX, float(a), float(b), _SCALE_PX_PER_CM, 75.0)
            for a, b in zip(x, y, strict=True)
        ),
    )


def take(model: ict.FaceModel, person: demo_person.Person, plan: Script, frame: int) -> Take:
    """Render one frame of the script."""
    weights, pose, camera = plan.weights[frame], plan.poses[frame], plan.cameras[frame]
    vertices = model.express(person.neutral, weights)
    backdrop = demo_person.with_shoulders(person.room, camera)
    paint = (person.colours, person.hair_cm)
    shot = scene.render(model, vertices, paint, pose, (camera, demo_person.LIGHT), backdrop)
    points = scene.five_points(shot.landmarks)
    inside = (points >= 0).all() and (points < [WIDTH_PX, HEIGHT_PX]).all()
    concepts = ict.concepts_of(model, weights, vertices, pose.yaw_deg, pose.pitch_deg)
    return Take(scene.to_luma(shot.picture), concepts, bool(inside))


def write_clip(path: Path, takes: list[Take], voice: Voice) -> None:
    """H.264 and AAC in MP4."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as file:
        video = file.add_stream("libx264", rate=FPS, options={"crf": "23", "preset": "slow"})
        video.width, video.height, video.pix_fmt, video.gop_size = WIDTH_PX, HEIGHT_PX, "yuv420p", FPS
        video.codec_context.color_range, video.codec_context.colorspace = ColorRange.MPEG, Colorspace.ITU601
        audio = file.add_stream("aac", rate=RATE_HZ, layout="mono", bit_rate=48_000)
        for i, shot in enumerate(takes):
            picture = av.VideoFrame.from_ndarray(shot.rgb, format="rgb24")
            picture.pts, picture.time_base = i, Fraction(1, FPS)
            file.mux(video.encode(picture))
        sound = av.AudioFrame.from_ndarray(voice.samples[None], format="fltp", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
        file.mux(audio.encode(sound))
        for stream in (video, audio):
            file.mux(stream.encode(None))


def write_truth(path: Path, plan: Script, takes: list[Take], voice: Voice) -> None:
    """One line a frame: frame, t_s, present, speaking, then the concepts in their order."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["frame", "t_s", "present", "speaking", *NAMES])
        for i, shot in enumerate(takes):
            flags = [int(shot.present), int(voice.speaking[i])]
            rows.writerow([i, f"{plan.t_s[i]:.4f}", *flags, *(f"{value:.4g}" for value in shot.concepts)])


def main(
    ict_path: Annotated[Path, typer.Option("--ict", help="ict_facekit_light.npz")],
    out: Annotated[Path, typer.Option(help="folder for demo.mp4 and truth.csv")] = Path("examples/demo"),
) -> None:
    """Render the demo clip."""
    try:
        model, voice = ict.load(ict_path), speak()
    except (ict.IctFileError, SpeechError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    plan = script(model, voice.opening)
    render = partial(take, model, demo_person.person(model), plan)
    takes = [render(i) for i in track(range(FRAMES), "rendering")]
    out.mkdir(parents=True, exist_ok=True)
    write_clip(out / "demo.mp4", takes, voice)
    write_truth(out / "truth.csv", plan, takes, voice)
    typer.echo(f"{out}: {FRAMES} frames, {sum(t.present for t in takes)} of them with the face in the picture")


if __name__ == "__main__":
    typer.run(main)
