"""A small causal network that hears what formulas do not: who speaks, whether the vocal folds swing and how fast, and
where syllables are. Loudness, harmonicity and tilt are formulas (training.voice.frontend) and pass through.

Dilated causal convolutions (van den Oord et al. 2016) over steps of 10 ms, about 1.3 s into the past and none into the
future. Pitch is a distribution over bins of half a semitone, read off as the mean around its peak (Kim et al. 2018).
Everything that is carried from call to call is one tensor, `memory`.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engines.voice import SAID
from training.voice.frontend import LAGS, MELS, PITCH_HZ, TAIL, Features, FrontEnd

COLUMNS: Final = SAID
"""What is said of every step. speaking, voiced, syllable: probabilities; pitch_st: semitones above 60 Hz, meant where
it is voiced; the rest: see Features."""
BIN_ST: Final = 0.5
PITCH_BINS: Final = math.ceil(12 * math.log2(PITCH_HZ[1] / PITCH_HZ[0]) / BIN_ST)
"""Over all pitches of voices."""
WIDTH: Final = 64
KERNEL: Final = 5
DILATIONS: Final = (1, 2, 4, 8, 16)
_READ_BINS: Final = 2
_FIRST_KERNEL: Final = 3
_INPUTS: Final = MELS + LAGS + 2


class Heard(NamedTuple):
    """Logits of n steps: speaking, voiced, syllable [B, n]; pitch [B, n, PITCH_BINS]. features: see FrontEnd."""

    speaking: Tensor
    voiced: Tensor
    syllable: Tensor
    pitch: Tensor
    features: Features


class Causal(nn.Module):
    """A convolution [B, C, n] -> [B, C', n] whose first outputs see the `reach` steps before, which are given."""

    def __init__(self, channels_in: int, channels: int, kernel: int, dilation: int, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels_in, channels, kernel, dilation=dilation, groups=groups)
        self.channels, self.reach = channels_in, (kernel - 1) * dilation

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """past [B, C, reach] -> outputs, and the past of the next call."""
        seen = torch.cat([past, x], dim=2)
        y: Tensor = self.conv(seen)
        return y, seen[:, :, seen.shape[2] - self.reach :]


class Block(nn.Module):
    """Depthwise in time, then across channels, beside a shortcut."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.time = Causal(WIDTH, WIDTH, KERNEL, dilation, WIDTH)
        self.norm = nn.BatchNorm1d(WIDTH)
        self.mix = nn.Conv1d(WIDTH, WIDTH, 1)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """[B, WIDTH, n] -> the same, and the past of the next call."""
        y, past = self.time(x, past)
        mixed: Tensor = x + self.mix(F.relu(self.norm(y)))
        return mixed, past


class VoiceNet(nn.Module):
    """Samples [B, 160 n] and memory [B, `memory_size`] -> what was heard, and the memory of the next call. A memory of
    zeros is a start in silence."""

    def __init__(self) -> None:
        super().__init__()
        self.front = FrontEnd()
        self.scale = nn.BatchNorm1d(_INPUTS)
        self.first = Causal(_INPUTS, WIDTH, _FIRST_KERNEL, 1)
        self.blocks = nn.ModuleList(Block(dilation) for dilation in DILATIONS)
        self.last = nn.Conv1d(WIDTH, 3 + PITCH_BINS, 1)

    @property
    def memory_size(self) -> int:
        """Numbers that are carried from call to call."""
        return TAIL + sum(part.channels * part.reach for part in self._causal())

    def forward(self, samples: Tensor, memory: Tensor) -> tuple[Heard, Tensor]:
        """See the class."""
        tail, *pasts = self._unpacked(memory)
        seen = torch.cat([tail, samples], dim=1)
        features = self.front(seen)
        known = torch.stack([features.loud_db / 20, features.hnr_db / 10], dim=2)
        x = self.scale(torch.cat([features.mel, features.periodic, known], dim=2).transpose(1, 2))
        x, kept = self.first(x, pasts[0])
        parts = [seen[:, seen.shape[1] - TAIL :], kept.flatten(1)]
        x = F.relu(x)
        for block, past in zip(self.blocks, pasts[1:], strict=True):
            x, kept = block(x, past)
            parts.append(kept.flatten(1))
        logits = self.last(F.relu(x)).transpose(1, 2)
        speaking, voiced, syllable = logits[..., :3].unbind(2)
        return Heard(speaking, voiced, syllable, logits[..., 3:], features), torch.cat(parts, dim=1)

    def _causal(self) -> list[Causal]:
        return [self.first, *(part for part in self.blocks.modules() if isinstance(part, Causal))]

    def _unpacked(self, memory: Tensor) -> list[Tensor]:
        sizes = [part.channels * part.reach for part in self._causal()]
        tail, *flat = torch.split(memory, [TAIL, *sizes], dim=1)
        shaped = zip(flat, self._causal(), strict=True)
        return [tail, *(part.reshape(len(memory), each.channels, each.reach) for part, each in shaped)]


def pitch_st(logits: Tensor) -> Tensor:
    """Semitones above PITCH_HZ[0] [B, n] of a distribution over bins [B, n, PITCH_BINS]: the mean around its peak."""
    bins = torch.arange(PITCH_BINS, device=logits.device)
    near = (bins - logits.argmax(-1, keepdim=True)).abs() <= _READ_BINS
    weights = logits.masked_fill(~near, -1e4).softmax(-1)
    return (weights * bins).sum(-1) * BIN_ST


class Spoken(nn.Module):
    """What is exported: samples [B, 160 n], memory -> voice [B, n, COLUMNS], memory."""

    def __init__(self, network: VoiceNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, samples: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        heard, kept = self.network(samples, memory)
        f = heard.features
        columns = (
            heard.speaking.sigmoid(), heard.voiced.sigmoid(), pitch_st(heard.pitch), heard.syllable.sigmoid(),
            f.loud_db, f.hnr_db, f.alpha_db, f.peak, f.clipped,
        )  # fmt: skip
        return torch.stack(columns, dim=2), kept
