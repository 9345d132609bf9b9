"""The voice network as a file."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch

from training.graphs import graph_of
from training.voice.frontend import HOP
from training.voice.model import Spoken


def to_onnx(spoken: Spoken, path: Path) -> None:
    """samples [1, 160 n], memory [1, M] -> voice [1, n, COLUMNS], memory_out [1, M]; n is free."""
    example = torch.zeros(1, 4 * HOP), torch.zeros(1, spoken.network.memory_size)
    free = ({1: HOP * torch.export.Dim("steps", min=1, max=4096)}, None)
    graph = graph_of(spoken.eval(), example, (["samples", "memory"], ["voice", "memory_out"]), free)
    onnx.checker.check_model(graph, full_check=True)
    path.write_bytes(graph.SerializeToString(deterministic=True))
