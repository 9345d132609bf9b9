"""A model that sees and also hears, without labels of how voices and engagement go together:
`python -m training.voice.prior --out models/agcm-av-live`.

The folder that is written holds a manifest alone: the concept network and the voice network of other folders, and a
small weight for some voice concepts that was fixed by hand (PRIOR). Live, the weights count only where a session asks
for them; what is heard is published in any case. training.timed.noxi learns weights instead, from labelled sessions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from calibration.joined import JoinError, joined, write
from engines.fusion import HearingSpec, PriorSpec
from engines.spec import ManifestError, ModelFile, model_at
from engines.voice import CONCEPTS

PRIOR: Final[Mapping[str, tuple[float, float]]] = {
    "speaking": (0.03, 0.5),
    "loudness": (0.02, 0.5),
    "pitch_movement": (0.015, 0.3),
    "speech_rate": (0.01, 0.4),
    "silence": (-0.02, 0.3),
    "takes_turn": (0.005, 0.0),
}
"""(weight, mean) of each voice concept that counts; the others count nothing. The signs are those that studies of
engagement in conversation report: who is engaged speaks more, more lively and more loudly, and is silent for shorter.
The sizes are a choice: all of them together move a score by less than a tenth of its scale."""


def prior() -> PriorSpec:
    """A weight and a mean for each of CONCEPTS."""
    pairs = [PRIOR.get(name, (0.0, 0.0)) for name in CONCEPTS]
    return PriorSpec(tuple(weight for weight, _ in pairs), tuple(mean for _, mean in pairs))


def hearing_spec(voice: ModelFile) -> HearingSpec:
    """What a model that hears with `voice`, by the prior, says of it. Raises JoinError for another kind of network."""
    listed = tuple(concept.name for concept in voice.manifest.concepts)
    if listed != CONCEPTS:
        raise JoinError(f"{voice.manifest.name} is no voice network: its concepts are {', '.join(listed) or 'none'}")
    return HearingSpec(voice.manifest.name, voice.manifest.sha256, len(CONCEPTS), prior())


def main(
    out: Annotated[Path, typer.Option(help="model folder to write; its name is the model's")],
    model: Annotated[str, typer.Option(help="concept network: a folder under models/, or a path with a / in it")] = (
        "agcm-live"
    ),
    voice: Annotated[str, typer.Option(help="voice network, the same")] = "agcm-voice",
) -> None:
    """Join a concept network and a voice network, with the prior weights of voices."""
    try:
        write(joined(model_at(model), out, hearing_spec(model_at(voice)), None), out)
    except (JoinError, ManifestError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"wrote {out}")


if __name__ == "__main__":
    typer.run(main)
