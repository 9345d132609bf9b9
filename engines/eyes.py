"""How the concept network gets to see faces of a picture: crops that the CPU cuts, or a picture that lies on a GPU.

Whichever it is, a session does the same: `show` a picture, `aim` at the faces in it, `read` what the network says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from engines.base import Engine, EngineError, Tensors
from engines.preprocess import Affine, CropBatch, Luma, Points
from engines.spec import CropSpec


class Eyes(Protocol):
    """One of the two ways: OnHost, or engines.frame_engine.FrameEngine."""

    def show(self, luma: Luma) -> None:
        """The picture [H, W] that is looked at from now on; it must not change before the next is shown. Raises
        EngineError if a device fails."""
        ...

    def aim(self, faces: Sequence[Points]) -> tuple[Affine, ...]:
        """Look at the faces with these landmarks [5, 2]; the similarity of each, from picture to crop. Raises
        ValueError if landmarks coincide or there are too many faces, EngineError if no picture was shown."""
        ...

    def read(self) -> Tensors:
        """What the network says of the faces aimed at, of which there is at least one. Raises EngineError."""
        ...


class OnHost:
    """Crops are cut by the CPU, into memory that the next picture uses again. most: how many faces there may be."""

    def __init__(self, model: Engine, crop: CropSpec, most: int) -> None:
        self._model, self._crops = model, CropBatch(crop, most)
        self._luma: Luma | None = None
        self._faces = 0

    def show(self, luma: Luma) -> None:
        """See Eyes."""
        self._luma, self._faces = luma, 0

    def aim(self, faces: Sequence[Points]) -> tuple[Affine, ...]:
        """See Eyes."""
        if self._luma is None:
            raise EngineError("no picture was shown yet")
        self._faces = len(faces)
        return self._crops.cut(self._luma, faces)

    def read(self) -> Tensors:
        """See Eyes."""
        return self._model.infer({"crop": self._crops.tensor(self._faces)})
