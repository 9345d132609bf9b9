"""Train the voice network: `python -m training.voice.train runs/data/speech.npz --out runs/voice`.

Every epoch composes new sound from the labelled clips (training.voice.compose). Voices that are held out say how well
it hears a person and a language that it has not heard.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
import torch
import typer
from rich.progress import track
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional as F

from training.data.pictures import DataError
from training.data.writing import replaced
from training.feed import rate
from training.run import Averaged, write_atomically
from training.voice.compose import Scene, by_voice, conversation, recorded, synthetic
from training.voice.model import BIN_ST, PITCH_BINS, Heard, VoiceNet, pitch_st
from training.voice.reliability import ConceptFigures, reliabilities
from training.voice.speech import Labelled, load

SCENE_STEPS = 800
WARM_STEPS = 100
"""Steps of a scene that are not judged: the network hears the start out of silence."""
_SYNTHETIC = 0.15
_RETUNED = (0.75, 1.3)
"""How much faster clips are played to be other people's."""
_PITCH_SPREAD_BINS = 1.0
_NEAR_STEPS = 8
"""A syllable counts as heard within this of its mark."""


class Targets(NamedTuple):
    """speaking, voiced, pitch_st, syllable [B, n]; NaN is not known, and of pitch also: there is none."""

    speaking: Tensor
    voiced: Tensor
    pitch_st: Tensor
    syllable: Tensor


class VoiceFigures(msgspec.Struct, frozen=True):
    """On held-out voices: AUC and accuracy of speaking (teacher at .5), AUC of voicing; of steps that both call voiced,
    the median error of pitch in cents and the share that is off by more than 50; syllables: F1, and correlation of the
    number in 3 s with the teacher's. concepts: see training.voice.reliability."""

    speaking_auc: float
    speaking_accuracy: float
    voiced_auc: float
    pitch_cents: float
    pitch_gross: float
    syllable_f1: float
    rate_r: float
    voices: tuple[str, ...]
    hours: float
    concepts: tuple[ConceptFigures, ...] = ()


def scenes(voices: Sequence[list[Labelled]], count: int, seed: int, *, clean: bool = False) -> Iterator[Scene]:
    """Composed scenes of SCENE_STEPS. clean: recordings alone, as they are."""
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        if clean:
            yield conversation(voices[i % len(voices)], SCENE_STEPS, rng)
            continue
        if rng.random() < _SYNTHETIC:
            made = synthetic(SCENE_STEPS, rng)
        else:
            factor = float(rng.uniform(*_RETUNED)) if rng.random() < 0.5 else None
            made = conversation(voices[int(rng.integers(len(voices)))], SCENE_STEPS, rng, factor)
        yield recorded(made, rng)


def batch(made: Sequence[Scene]) -> tuple[Tensor, Targets]:
    """Samples [B, 160 n] and what should be heard."""
    stacked = [np.stack([getattr(scene, name) for scene in made]) for name in Scene.__slots__]
    samples, *targets = (torch.from_numpy(each) for each in stacked)
    return samples, Targets(*targets)


def loss_of(heard: Heard, targets: Targets) -> Tensor:
    """Cross-entropies of speaking, voicing and syllables, and of pitch where there is one."""
    judged = torch.ones_like(targets.voiced, dtype=torch.bool)
    judged[:, :WARM_STEPS] = False
    known = judged & ~targets.speaking.isnan()
    speaking = F.binary_cross_entropy_with_logits(heard.speaking[known], targets.speaking[known])
    voiced = F.binary_cross_entropy_with_logits(heard.voiced[judged], targets.voiced[judged])
    # A nucleus is one step among some twenty; its neighbours count in part, so that near is better than far.
    near = F.max_pool1d(targets.syllable.nan_to_num()[:, None], 3, 1, 1)[:, 0]
    weight = torch.where(near > 0, 6.0, 1.0)[known]
    syllable = F.binary_cross_entropy_with_logits(heard.syllable[known], near[known], weight)
    total = speaking + voiced + 0.5 * syllable
    sung = judged & ~targets.pitch_st.isnan()
    if sung.any():
        bins = torch.arange(PITCH_BINS, device=heard.pitch.device)
        off = (bins - targets.pitch_st[sung].unsqueeze(-1) / BIN_ST) / _PITCH_SPREAD_BINS
        total = total + 0.5 * F.cross_entropy(heard.pitch[sung], (-0.5 * off**2).softmax(-1))
    return total


@torch.no_grad()
def measure(model: VoiceNet, voices: Sequence[list[Labelled]], names: tuple[str, ...], count: int) -> VoiceFigures:
    """Figures on scenes of voices as they were recorded."""
    model.eval()
    said: list[list[np.ndarray]] = [[] for _ in range(8)]
    for made in scenes(voices, count, seed=9, clean=True):
        samples, targets = batch([made])
        heard, _ = model(samples, torch.zeros(1, model.memory_size))
        each = (heard.speaking, heard.voiced, pitch_st(heard.pitch), heard.syllable.sigmoid(), *targets)
        for part, value in zip(said, each, strict=True):
            part.append(value[0, WARM_STEPS:].numpy())
    heard_parts, truth = said[:4], said[4:]
    speaking, voiced, pitch = (np.concatenate(part) for part in heard_parts[:3])
    speaks, voices_on, sung = (np.concatenate(part) for part in truth[:3])
    both = ~np.isnan(sung) & (voiced > 0)
    cents = 100 * np.abs(pitch[both] - sung[both])
    f1, r = _syllables(heard_parts[3], truth[3])
    return VoiceFigures(
        float(roc_auc_score(speaks >= 0.5, speaking)), float(((speaking > 0) == (speaks >= 0.5)).mean()),
        float(roc_auc_score(voices_on >= 0.5, voiced)), float(np.median(cents)), float((cents > 50).mean()),
        f1, r, names, len(speaks) / 360_000,
    )  # fmt: skip


def peaks(probability: np.ndarray, least: float = 0.5) -> np.ndarray:
    """Steps where a probability [n] is highest among its neighbours and at least `least`."""
    middle = probability[1:-1]
    return 1 + np.flatnonzero((middle >= least) & (middle >= probability[:-2]) & (middle > probability[2:]))


def _syllables(heard: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> tuple[float, float]:
    hits = found = wanted = 0
    counts: list[tuple[float, float]] = []
    for probability, marks in zip(heard, truth, strict=True):
        ours, theirs = peaks(probability), np.flatnonzero(marks > 0.5)
        hits += sum(bool(len(ours)) and int(np.abs(ours - at).min()) <= _NEAR_STEPS for at in theirs)
        found, wanted = found + len(ours), wanted + len(theirs)
        edges = np.arange(0, len(marks), 300)
        counts += zip(np.histogram(ours, edges)[0], np.histogram(theirs, edges)[0], strict=True)
    precision, recall = hits / max(found, 1), hits / max(wanted, 1)
    together = np.array(counts, float).T
    return 2 * precision * recall / max(precision + recall, 1e-9), float(np.corrcoef(together)[0, 1])


def train(clips: Sequence[Labelled], held_out: Sequence[str], steps: int, seed: int) -> VoiceNet:
    """The averaged network after `steps` batches of 16 scenes. Raises DataError if a held-out voice is not there."""
    voices = by_voice(clips)
    if missing := [name for name in held_out if name not in voices]:
        raise DataError(f"no voice {missing[0]!r} is among {', '.join(voices)}")
    learnt = [own for name, own in voices.items() if name not in held_out]
    if not learnt or not held_out:
        raise DataError("some voices have to be held out and others learnt from")
    torch.manual_seed(seed)
    model = VoiceNet()
    averaged = Averaged(model, 0.99)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    for step in track(range(steps), description="voice"):
        model.train()
        samples, targets = batch(list(scenes(learnt, 16, seed=1_000_003 * seed + step)))
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * rate(step, steps)
        loss = loss_of(model(samples, torch.zeros(len(samples), model.memory_size))[0], targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # missing in torch's stub
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        averaged.update(model)
        if step % 50 == 49:
            print(f"{step + 1}/{steps} loss {loss.item():.3f}", flush=True)
    model.load_state_dict(averaged.state)
    settle_syllables(model, learnt)
    return model


def figures_of(model: VoiceNet, clips: Sequence[Labelled], held_out: Sequence[str], count: int = 24) -> VoiceFigures:
    """On the voices that were held out; concepts on `count` scenes of half a minute."""
    voices, names = by_voice(clips), tuple(held_out)
    held = [voices[name] for name in names]
    return msgspec.structs.replace(measure(model, held, names, 60), concepts=reliabilities(model, held, count))


@torch.no_grad()
def settle_syllables(model: VoiceNet, voices: Sequence[list[Labelled]], count: int = 60) -> None:
    """Move the syllables' bias so that there are as many as the teacher counts: training weighs their marks higher than
    what lies between, so that too many are told."""
    model.eval()
    said, wanted = [], 0
    for made in scenes(voices, count, seed=4, clean=True):
        samples, targets = batch([made])
        heard, _ = model(samples, torch.zeros(1, model.memory_size))
        said.append(heard.syllable[0, WARM_STEPS:].numpy())
        wanted += int((targets.syllable[0, WARM_STEPS:] > 0.5).sum())
    logits = np.sort(np.concatenate([each[peaks(each, -np.inf)] for each in said]))[::-1]
    bias = model.last.bias
    if bias is not None and 0 < wanted < len(logits):
        bias[2] -= float(logits[wanted])


def main(
    speech: Annotated[Path, typer.Argument(help="labelled speech of training.voice.label")],
    out: Annotated[Path, typer.Option(help="folder for weights.pt and figures.json")],
    held_out: Annotated[list[str], typer.Option(help="voice to measure on and not to learn from; may be given again")],
    steps: Annotated[int, typer.Option(min=1, help="batches of 16 scenes of 8 s")] = 1500,
    seed: Annotated[int, typer.Option(help="of weights and scenes")] = 1,
    threads: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Train on all voices but those held out, and measure on these."""
    torch.set_num_threads(threads)
    try:
        clips = load(speech)
        model = train(clips, held_out, steps, seed)
        write_atomically(out / "weights.pt", model.state_dict())
        figures = figures_of(model, clips, held_out)
        with replaced(out / "figures.json") as partial:
            partial.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n")
    except DataError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    print(figures)


if __name__ == "__main__":
    typer.run(main)
