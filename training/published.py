"""Figures that others published; none of them was measured here.

AGCM: X. Li and M. Mahmoud, arXiv 2502.10145, supplement, Table 1. The split of Aff-Wild2 and NoXi is not stated there;
their test labels are held by the organisers. The others: as named in each row.
"""

from __future__ import annotations

from dataclasses import dataclass

from training.data.datasets import Metric


@dataclass(frozen=True, slots=True)
class Table1:
    """A row of the study's Table 1, in percent. modality: V, or V+A with sound."""

    dataset: str
    modality: str
    metric: Metric
    end_to_end: float
    by_step: float


TABLE_1: tuple[Table1, ...] = (
    Table1("rafdb", "V", "accuracy", 94.40, 89.71),
    Table1("affectnet7", "V", "accuracy", 69.45, 64.08),
    Table1("affectnet8", "V", "accuracy", 65.62, 61.36),
    Table1("affwild2", "V", "macro_f1", 44.95, 39.10),
    Table1("affwild2", "V+A", "macro_f1", 47.52, 39.23),
    Table1("noxi", "V", "ccc", 59.24, 52.01),
    Table1("noxi", "V+A", "ccc", 80.39, 67.88),
)

EMBEDDING_EXPRESSION, EMBEDDING_ENGAGEMENT = 16, 32
"""The sizes that the study settles on; it says that larger ones stop helping. Its curve is a figure without numbers."""


@dataclass(frozen=True, slots=True)
class Other:
    """Another published figure, in percent, on the split that it names."""

    dataset: str
    split: str
    metric: Metric
    value: float
    who: str


OTHERS: tuple[Other, ...] = (
    Other("daisee", "test", "accuracy", 73.43, "ViBED-Net, arXiv 2510.18016"),
    Other("engagenet", "valid", "accuracy", 71.3, "EmotiW 2024 ensemble"),
    Other("engagenet", "test", "accuracy", 74.7, "EmotiW 2024 ensemble"),
    Other("noxi", "valid", "ccc", 83.5, "DCE-CEAM, with sound"),
    Other("ferplus", "test", "accuracy", 84.99, "VGG13, Barsoum et al. 2016, agreed pictures"),
    Other("ferplus", "test", "accuracy", 91.85, "QCS"),
    Other("ferplus", "test", "accuracy", 95.55, "PAtt-Lite"),
)
