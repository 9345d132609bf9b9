"""What linearity costs: a GRU (Cho et al. 2014) and a dilated TCN (Bai et al. 2018) on the same streams.

Both read windows of 96 frames, as the challenge's systems do, and are judged on the whole of a session. Their loss is
squared error plus 1 - CCC. Neither tells what it made of a concept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from training.agcm.losses import concordance

F64 = npt.NDArray[np.float64]

WINDOW = 96
_WIDTH = 32
_BATCH = 32


class Gru(nn.Module):
    """[B, T, D] -> [B, T]."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.shrink = nn.Linear(columns, _WIDTH)
        self.cell = nn.GRU(_WIDTH, _WIDTH, batch_first=True)
        self.read = nn.Linear(_WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y: Tensor = self.read(self.cell(self.shrink(x).relu())[0]).squeeze(-1)
        return y


class Tcn(nn.Module):
    """[B, T, D] -> [B, T]; five causal layers that see 63 frames."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.shrink = nn.Conv1d(columns, _WIDTH, 1)
        self.layers = nn.ModuleList(nn.Conv1d(_WIDTH, _WIDTH, 3, dilation=2**i) for i in range(5))
        self.read = nn.Conv1d(_WIDTH, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y = self.shrink(x.transpose(1, 2))
        for i, layer in enumerate(self.layers):
            y = y + layer(nn.functional.pad(y.relu(), (2 ** (i + 1), 0)))
        said: Tensor = self.read(y.relu()).squeeze(1)
        return said


RIVALS: Mapping[str, Callable[[int], nn.Module]] = {"GRU": Gru, "TCN": Tcn}
"""Name -> a fresh network for D columns."""


def loss_of(said: Tensor, label: Tensor) -> Tensor:
    """Squared error plus 1 - CCC (Lin 1989) over all frames of a batch that have a label."""
    known = ~label.isnan()
    y, t = said[known], label[known]
    return ((y - t) ** 2).mean() + 1 - concordance(y, t, torch.full_like(y, 1 / len(y)))


def windows(series: Sequence[F64], labels: Sequence[F64], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A batch of windows from random places: [B, WINDOW, D] and [B, WINDOW]."""
    xs, ys = [], []
    for _ in range(_BATCH):
        i = int(rng.integers(len(series)))
        start = int(rng.integers(len(series[i]) - WINDOW + 1))
        xs.append(series[i][start : start + WINDOW])
        ys.append(labels[i][start : start + WINDOW])
    return torch.from_numpy(np.stack(xs)).float(), torch.from_numpy(np.stack(ys)).float()


def fitted(name: str, series: Sequence[F64], labels: Sequence[F64], steps: int, seed: int) -> Callable[[F64], F64]:
    """The rival's answer [T] as a function of a session's columns [T, D]. Raises ValueError for too short a session."""
    if short := [len(each) for each in series if len(each) < WINDOW]:
        raise ValueError(f"a session of {short[0]} frames is shorter than a window of {WINDOW}")
    together = np.concatenate(series)
    mean, scale = together.mean(0), together.std(0) + 1e-6
    scaled = [(each - mean) / scale for each in series]
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = RIVALS[name](together.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    for _ in range(steps):
        x, y = windows(scaled, labels, rng)
        optimizer.zero_grad()
        loss_of(model(x), y).backward()  # type: ignore[no-untyped-call]  # missing in torch's stub
        optimizer.step()
    model.eval()

    @torch.no_grad()
    def answer(columns: F64) -> F64:
        said: F64 = model(torch.from_numpy((columns - mean) / scale).float()[None])[0].double().numpy()
        return said

    return answer
