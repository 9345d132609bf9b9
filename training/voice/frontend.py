"""Sound to spectra inside the network, so that training and every backend compute the same features.

16 kHz mono in steps of 10 ms. Each step sees the last 64 ms (pitch, harmonicity, loudness) and the last 32 ms (mel
bands), so nothing waits for sound that is to come. The Fourier transform is a product with tables, as a convolution of
stride 160 is, after two foldings that leave a quarter of the products. What a step needs of the past is carried from
call to call as a tensor, and so is told apart from the network itself.

* mel bands: 40 triangles from 60 to 7,600 Hz, evenly spaced in mel (O'Shaughnessy 1987), logarithm of the power;
* autocorrelation r(tau), divided by that of the window and by r(0), Boersma 1993: its highest value at the lags of
  voices (60 to 500 Hz) is the share of the power that is periodic, so HNR = 10 log10(r / (1 - r)) dB;
* loudness: mean square behind the K weighting of ITU-R BS.1770-4, LKFS = -0.691 + 10 log10(ms); the weighting's
  response at each bin stands for the filter, and what lies above 8 kHz is not there;
* alpha ratio (eGeMAPS, Eyben et al. 2016): dB of 50 to 1,000 Hz above 1 to 5 kHz.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engines.voice import HOP, RATE_HZ

F64 = npt.NDArray[np.float64]

LONG, SHORT = 1024, 512
TAIL = LONG - HOP
"""Samples before a step that it sees."""
MELS = 40
LAGS = 64
PITCH_HZ = (60.0, 500.0)
_MEL_HZ = (60.0, 7600.0)
_FLOOR = 1e-10
_PEAKED = 0.9999
"""Periodic share above which HNR is no longer told apart: 40 dB."""
# Biquads of ITU-R BS.1770-4 at 48 kHz: the head's shelf, and the high pass of the revised low-frequency B curve.
_K_RATE_HZ = 48_000
_K_STAGES = (
    ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585)),
    ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621)),
)


class Features(NamedTuple):
    """Of n steps: mel [B, n, MELS], ln power; periodic [B, n, LAGS], normalised autocorrelation at lags evenly spaced
    in pitch; loud_db [B, n], LKFS of the last 64 ms; hnr_db, alpha_db [B, n]; peak [B, n], half of what the step
    swings between its lowest and highest sample, so that a constant offset is nothing; clipped [B, n], share of its
    samples at full scale.
    """

    mel: Tensor
    periodic: Tensor
    loud_db: Tensor
    hnr_db: Tensor
    alpha_db: Tensor
    peak: Tensor
    clipped: Tensor


def mel_of(hz: npt.NDArray[np.floating[Any]] | float) -> F64:
    """Mel scale (O'Shaughnessy 1987)."""
    return np.asarray(2595 * np.log10(1 + np.asarray(hz) / 700))


def mel_bands() -> F64:
    """Triangles [SHORT / 2 + 1, MELS] over the bins of the short window, each of sum 1."""
    edges = np.linspace(mel_of(_MEL_HZ[0]), mel_of(_MEL_HZ[1]), MELS + 2)
    at = mel_of(np.fft.rfftfreq(SHORT, 1 / RATE_HZ))[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rise, fall = (at - low) / (middle - low), (high - at) / (high - middle)
    bands = np.clip(np.minimum(rise, fall), 0, None)
    return np.asarray(bands / bands.sum(0))


def k_weights() -> F64:
    """|H(f)|^2 of the K weighting at the bins of the long window [LONG / 2 + 1]."""
    z = np.exp(-2j * np.pi * np.fft.rfftfreq(LONG, 1 / RATE_HZ) / _K_RATE_HZ)
    response = np.ones_like(z)
    for numerator, denominator in _K_STAGES:
        response *= np.polyval(numerator[::-1], z) / np.polyval(denominator[::-1], z)
    return np.asarray(np.abs(response) ** 2)


def lag_table() -> tuple[F64, F64]:
    """All whole lags of voices [L], and weights [L, LAGS] that read values at LAGS lags, evenly spaced in pitch from
    high to low, between them."""
    shortest, longest = int(RATE_HZ / PITCH_HZ[1]), int(np.ceil(RATE_HZ / PITCH_HZ[0]))
    lags = np.arange(shortest, longest + 1, dtype=np.float64)
    wanted = np.geomspace(RATE_HZ / PITCH_HZ[1], RATE_HZ / PITCH_HZ[0], LAGS)
    weights = np.clip(1 - np.abs(lags[:, None] - wanted), 0, None)
    return lags, weights


def keep(module: nn.Module, **tables: F64) -> None:
    """Put tables into a module as constants of its graph, which are no weights."""
    for name, table in tables.items():
        module.register_buffer(name, torch.from_numpy(np.ascontiguousarray(table)).float(), persistent=False)


class Spectrum(nn.Module):
    """Power spectra [B, n, N / 2 + 1] of N samples each [B, n, N] through Hann's window, even bins first (`bins`).

    Cosines are alike on both sides of the middle and sines opposite, so the sides are added and subtracted. What is
    left is again alike or opposite on both sides of its middle, by whether the bin is even: so a second time. A quarter
    of the products remains.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._quarter = size // 4
        self.bins: npt.NDArray[np.intp] = np.concatenate(
            [np.arange(0, size // 2 + 1, 2), np.arange(1, size // 2, 2)]
        ).astype(np.intp)
        angle = 2 * np.pi * np.outer(np.arange(self._quarter + 1), self.bins) / size
        even, odd = angle[:, : self._quarter + 1], angle[:, self._quarter + 1 :]
        keep(
            self, window=np.hanning(size + 1)[:-1], cos_even=np.cos(even), cos_odd=np.cos(odd[:-1]),
            sin_even=np.sin(even[1:-1]), sin_odd=np.sin(odd[1:]),
        )  # fmt: skip
        self.window: Tensor
        self.cos_even: Tensor
        self.cos_odd: Tensor
        self.sin_even: Tensor
        self.sin_odd: Tensor

    def forward(self, samples: Tensor) -> Tensor:
        """See the class."""
        seen, half = samples * self.window, 2 * self._quarter
        left, middle, right = seen[..., 1:half], seen[..., half : half + 1], seen[..., half + 1 :].flip(-1)
        near, quarter, far = self._folded(left + right)
        # The window begins with 0, so that the middle has nothing opposite to it.
        even = torch.cat([middle, near + far, quarter], dim=-1) @ self.cos_even
        odd = torch.cat([-middle, near - far], dim=-1) @ self.cos_odd
        near, quarter, far = self._folded(left - right)
        even = even**2 + ((near - far) @ self.sin_even) ** 2
        odd = odd**2 + (torch.cat([near + far, quarter], dim=-1) @ self.sin_odd) ** 2
        return torch.cat([even, odd], dim=-1)

    def _folded(self, side: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Places 1 .. N / 2 - 1 -> 1 .. N / 4 - 1, N / 4, and N / 2 - 1 back to N / 4 + 1."""
        at = self._quarter
        return side[..., : at - 1], side[..., at - 1 : at], side[..., at:].flip(-1)


class FrontEnd(nn.Module):
    """Samples [B, TAIL + 160 n] in [-1, 1], the first TAIL of them what the call before ended with -> n steps."""

    def __init__(self) -> None:
        super().__init__()
        long, short = np.hanning(LONG + 1)[:-1], np.hanning(SHORT + 1)[:-1]
        lags, between = lag_table()
        self.long, self.short = Spectrum(LONG), Spectrum(SHORT)
        bins = np.arange(LONG // 2 + 1)
        twice = np.where(bins == LONG // 2, 1.0, 2.0)  # both halves of the spectrum
        # A constant offset is no sound, however much of it there is; through the window it is in two bins.
        twice[:2] = 0.0
        waves = twice[:, None] * np.cos(2 * np.pi * np.outer(bins, lags) / LONG)
        of_window = np.array([(long[: LONG - int(lag)] * long[int(lag) :]).sum() for lag in lags]) / (long**2).sum()
        hz = np.fft.rfftfreq(LONG, 1 / RATE_HZ)
        whole = 1 / (LONG * (long**2).sum())  # Parseval: power spectrum to mean square
        sums = (twice, twice * k_weights() * whole, (hz >= 50) & (hz < 1000), (hz >= 1000) & (hz <= 5000))
        # One product for all that is linear in the power. Apart from being quicker, it keeps out products with a
        # vector, which ONNX Runtime 1.32 computes wrongly after it has merged them with the transposition before.
        linear = np.column_stack([waves / of_window, *sums])
        bands = mel_bands() / (short**2).sum()
        keep(self, bands=bands[self.short.bins], linear=linear[self.long.bins], between=between)
        self.bands: Tensor
        self.between: Tensor
        self.linear: Tensor

    def forward(self, samples: Tensor) -> Features:
        """See the class."""
        seen = frames(samples)
        found = self.long(seen) @ self.linear
        power, weighted, low, high = found[..., -4:].unbind(-1)
        correlation = found[..., :-4] / power.unsqueeze(-1).clamp_min(_FLOOR)
        periodic = correlation.amax(-1).clamp(1 - _PEAKED, _PEAKED)
        newest = samples[:, TAIL:].reshape(len(samples), -1, HOP)
        return Features(
            (self.short(seen[..., LONG - SHORT :]) @ self.bands).clamp_min(_FLOOR).log(),
            correlation @ self.between,
            -0.691 + _db(weighted),
            _db(periodic / (1 - periodic)),
            _db(low) - _db(high),
            0.5 * (newest.amax(-1) - newest.amin(-1)),
            (newest.abs() >= 0.999).to(samples.dtype).mean(-1),
        )


def frames(samples: Tensor) -> Tensor:
    """Samples [B, TAIL + 160 n] -> what each of n steps sees [B, n, LONG]."""
    hops = -(-LONG // HOP)
    blocks = F.pad(samples, (hops * HOP - LONG, 0)).reshape(len(samples), -1, HOP)
    steps = blocks.shape[1] - hops + 1
    return torch.cat([blocks[:, j : j + steps] for j in range(hops)], dim=2)[..., hops * HOP - LONG :]


def _db(power: Tensor) -> Tensor:
    # Not by adding: ONNX Runtime 1.32 takes so small an addend for zero and leaves it out.
    return 10 * power.clamp_min(_FLOOR).log10()
