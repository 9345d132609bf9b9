"""Systems without a bottleneck: what interpretability costs is measured against these."""

from __future__ import annotations

from torch import Tensor, nn

from training.agcm.backbones import Backbone
from training.agcm.system import Output, System, needed


class BlackBox(System):
    """The backbone's mean, and linear heads on it."""

    def __init__(self, backbone: Backbone, outputs: int) -> None:
        super().__init__(backbone)
        self.task = nn.Linear(backbone.channels, outputs)

    def forward(self, luma: Tensor, labels: Tensor | None = None, known: Tensor | None = None) -> Output:
        """See the class; labels are not used."""
        return Output(self.task(self.backbone(luma).float().mean((2, 3))))


class MultiTask(System):
    """Concepts and task side by side on the same pooled features; neither reads the other."""

    names = ("activation", "heads")

    def __init__(self, backbone: Backbone, concepts: int, outputs: int) -> None:
        super().__init__(backbone)
        self.concept = nn.Linear(backbone.channels, concepts)
        self.task = nn.Linear(backbone.channels, outputs)

    def forward(self, luma: Tensor, labels: Tensor | None = None, known: Tensor | None = None) -> Output:
        """See the class; labels are not used."""
        pooled = self.backbone(luma).float().mean((2, 3))
        return Output(self.task(pooled), self.concept(pooled))

    def published(self, out: Output) -> tuple[Tensor, ...]:
        """activation [B, K], heads [B, O]."""
        return needed(out.logits).sigmoid(), out.heads
