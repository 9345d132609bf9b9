"""The detector and the concept network of a session on one GPU, over a picture that goes up once.

What comes down: 1088 numbers when faces are looked for, and 555 or so for each face that is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from engines.backend_tensorrt import TensorRtEngine
from engines.base import EngineError, Tensors, is_finite
from engines.build import CACHE
from engines.cuda import Gpu, Resident, Shown
from engines.detect import Detection, of_cells, seen_px
from engines.frame import detector_network, edges, face_network, kept, places_of, plane, tensors_of
from engines.preprocess import Affine, Luma
from engines.spec import Manifest, ModelFile

FRAMES: Final = CACHE.with_name("frames")
"""Where the networks that read frames are kept, which are made from those that ship."""


class FrameEngine:
    """Reads pictures: `show` one, then look for faces in it and read faces of it, as often as is needed.

    precision: of the concept network; the detector runs in fp32. Raises EngineError, as all of its methods do.
    """

    def __init__(self, detector: ModelFile, model: ModelFile, precision: str = "fp32", cache: Path = FRAMES) -> None:
        self._model = model
        self._gpu = Gpu()
        self._shown = Shown(self._gpu)
        self._frame: tuple[Luma, Resident] | None = None
        self._engines: list[TensorRtEngine] = []
        try:
            for network, level in ((detector_network(detector), "fp32"), (face_network(model, precision), precision)):
                self._engines.append(TensorRtEngine(kept(*network, cache), level, gpu=self._gpu))
        except EngineError:
            self.close()
            raise

    @property
    def manifest(self) -> Manifest:
        """Of the concept network as it ships."""
        return self._model.manifest

    @property
    def backend(self) -> str:
        """As printed in every result."""
        return self._engines[1].backend

    def show(self, luma: Luma) -> None:
        """The picture [H, W] that is looked at from now on; it must not change before the next is shown."""
        self._frame = luma, self._shown.show(plane(luma))

    def detect(self, longest_px: int = 320, threshold: float = 0.5) -> tuple[Detection, ...]:
        """Faces in the picture, best first; see engines.detect.detect."""
        luma, frame = self._looked_at()
        rows, columns = seen_px(luma, longest_px)
        where = {"rows": edges(luma.shape[0], rows), "columns": edges(luma.shape[1], columns)}
        cells = self._engines[0].infer({"frame": frame, **where})["cells"]
        if not is_finite(cells):
            raise EngineError(f"the detector on {self._engines[0].backend} returned values that are not finite")
        return of_cells(cells[0], luma, longest_px, threshold)

    def read(self, affines: Sequence[Affine]) -> Tensors:
        """What the concept network says of the faces at these similarities [2, 3] from picture to crop; `peaks` stands
        for `maps`. Not for no faces."""
        _, frame = self._looked_at()
        answer = self._engines[1].infer({"frame": frame, "places": places_of(affines)})["answer"]
        return tensors_of(answer, self.manifest)

    def close(self) -> None:
        """Give everything back. Calling it twice is allowed."""
        for engine in self._engines:
            engine.close()
        self._shown.close()
        self._frame = None
        self._gpu.close()

    def _looked_at(self) -> tuple[Luma, Resident]:
        if self._frame is None:
            raise EngineError("no picture was shown yet")
        return self._frame
