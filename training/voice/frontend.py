"""Sound to spectra inside the network, so that training and every backend compute the same features.

16 kHz mono in steps of 10 ms. Each step sees the last 64 ms (pitch, harmonicity, loudness) and the last 32 ms (mel
bands), so nothing waits for sound that is to come. The Fourier transform is a product with tables, as a convolution of
stride 160 is. What a step needs of the past is carried from call to call as a tensor, and so is told apart from the
network itself.

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


def fourier(window: F64) -> tuple[F64, F64]:
    """Cosines [N / 2, N / 2 + 1] and sines [N / 2 - 1, N / 2 + 1] of a windowed Fourier transform, for what `folded`
    makes of N samples. window: symmetric about N / 2 and 0 at its start, as Hann's is."""
    half = len(window) // 2
    places = np.arange(1, half + 1)
    angle = 2 * np.pi * np.outer(places, np.arange(half + 1)) / len(window)
    return np.cos(angle) * window[places, None], np.sin(angle[:-1]) * window[places[:-1], None]


def lag_table() -> tuple[F64, F64]:
    """All whole lags of voices [L], and weights [L, LAGS] that read values at LAGS lags, evenly spaced in pitch from
    high to low, between them."""
    shortest, longest = int(RATE_HZ / PITCH_HZ[1]), int(np.ceil(RATE_HZ / PITCH_HZ[0]))
    lags = np.arange(shortest, longest + 1, dtype=np.float64)
    wanted = np.geomspace(RATE_HZ / PITCH_HZ[1], RATE_HZ / PITCH_HZ[0], LAGS)
    weights = np.clip(1 - np.abs(lags[:, None] - wanted), 0, None)
    return lags, weights


class FrontEnd(nn.Module):
    """Samples [B, TAIL + 160 n] in [-1, 1], the first TAIL of them what the call before ended with -> n steps."""

    def __init__(self) -> None:
        super().__init__()
        long, short = np.hanning(LONG + 1)[:-1], np.hanning(SHORT + 1)[:-1]
        lags, between = lag_table()
        bins = np.arange(LONG // 2 + 1)
        twice = np.where(bins == LONG // 2, 1.0, 2.0)  # both halves of the spectrum
        # A constant offset is no sound, however much of it there is; through the window it is in two bins.
        twice[:2] = 0.0
        waves = twice[:, None] * np.cos(2 * np.pi * np.outer(bins, lags) / LONG)
        of_window = np.array([(long[: LONG - int(lag)] * long[int(lag) :]).sum() for lag in lags]) / (long**2).sum()
        hz = np.fft.rfftfreq(LONG, 1 / RATE_HZ)
        whole = 1 / (LONG * (long**2).sum())  # Parseval: power spectrum to mean square
        sums = (twice, twice * k_weights() * whole, (hz >= 50) & (hz < 1000), (hz >= 1000) & (hz <= 5000))
        tables = {
            "long_cos": fourier(long)[0], "long_sin": fourier(long)[1], "short_cos": fourier(short)[0],
            "short_sin": fourier(short)[1], "bands": mel_bands() / (short**2).sum(), "between": between,
            # One product for all that is linear in the power. Apart from being quicker, it keeps out products with a
            # vector, which ONNX Runtime 1.32 computes wrongly after it has merged them with the transposition before.
            "linear": np.column_stack([waves / of_window, *sums]),
        }  # fmt: skip
        for name, table in tables.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(table)).float(), persistent=False)
        self.long_cos: Tensor
        self.long_sin: Tensor
        self.short_cos: Tensor
        self.short_sin: Tensor
        self.bands: Tensor
        self.between: Tensor
        self.linear: Tensor

    def forward(self, samples: Tensor) -> Features:
        """See the class."""
        seen = frames(samples)
        found = spectrum(seen, self.long_cos, self.long_sin) @ self.linear
        power, weighted, low, high = found[..., -4:].unbind(-1)
        correlation = found[..., :-4] / power.unsqueeze(-1).clamp_min(_FLOOR)
        periodic = correlation.amax(-1).clamp(1 - _PEAKED, _PEAKED)
        newest = samples[:, TAIL:].reshape(len(samples), -1, HOP)
        return Features(
            (spectrum(seen[..., LONG - SHORT :], self.short_cos, self.short_sin) @ self.bands).clamp_min(_FLOOR).log(),
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


def spectrum(seen: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Power spectra [B, n, bins] of N samples each [B, n, N].

    Cosines are alike on both sides of the middle and sines opposite; so the sides are first added and subtracted, and
    half of the products are left.
    """
    half = seen.shape[-1] // 2
    left, right = seen[..., 1:half], seen[..., half + 1 :].flip(-1)
    real = torch.cat([left + right, seen[..., half : half + 1]], dim=-1) @ cosines
    imaginary = (left - right) @ sines
    return real**2 + imaginary**2


def _db(power: Tensor) -> Tensor:
    # Not by adding: ONNX Runtime 1.32 takes so small an addend for zero and leaves it out.
    return 10 * power.clamp_min(_FLOOR).log10()
