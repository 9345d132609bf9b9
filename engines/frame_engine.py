"""The detector and the concept network of a session on one GPU, over a picture that goes up once.

What comes down: 1088 numbers when faces are looked for, and 555 or so for each face that is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from engines.backend_tensorrt import TensorRtEngine
from engines.base import Array, EngineError, Tensors, int8_of, is_finite
from engines.build import CACHE
from engines.cuda import Gpu, Resident, Shown
from engines.detect import Detection, of_cells, seen_px
from engines.frame import detector_network, edges, face_network, kept, places_of, plane, tensors_of
from engines.preprocess import Affine, Luma, Points, similarity
from engines.spec import Manifest, ModelFile

FRAMES: Final = CACHE.with_name("frames")
"""Where the networks that read frames are kept, which are made from those that ship."""


class FrameEngine:
    """Eyes on a GPU, and the detector there too: `show` a picture, then look for faces in it, aim and read, as often as
    is needed.

    precision: of the concept network; the detector runs in fp32. because: why its engines were compiled when they were
    loaded, of those that were. Raises EngineError, as all of its methods do.
    """

    def __init__(self, detector: ModelFile, model: ModelFile, precision: str = "fp32", cache: Path = FRAMES) -> None:
        self._model = model
        self._side_px = model.manifest.crop.size_px if model.manifest.crop is not None else 0
        self._precision = precision
        source = int8_of(model, "s8") if precision == "int8" else model
        self._gpu = Gpu()
        self._shown = Shown(self._gpu)
        self._frame: Resident | None = None
        self._places: Array | None = None
        self._engines: list[TensorRtEngine] = []
        try:
            # An int8 file is in int8 as it is.
            for network, level in (
                (detector_network(detector), "fp32"),
                (face_network(source, precision), "fp32" if precision == "int8" else precision),
            ):
                self._engines.append(TensorRtEngine(kept(*network, cache), level, gpu=self._gpu))
        except EngineError:
            self.close()
            raise
        self.because = tuple(filter(None, (engine.because for engine in self._engines)))

    @property
    def manifest(self) -> Manifest:
        """Of the concept network as it ships."""
        return self._model.manifest

    @property
    def backend(self) -> str:
        """As printed in every result."""
        return f"tensorrt/{self._precision}"

    def show(self, luma: Luma) -> None:
        """See Eyes."""
        self._frame, self._places = self._shown.show(plane(luma)), None

    def detect(self, luma: Luma, longest_px: int = 320, threshold: float = 0.5) -> tuple[Detection, ...]:
        """Faces in `luma`, the picture that was shown, best first; see engines.detect.detect."""
        frame = self._looked_at()
        rows, columns = seen_px(luma, longest_px)
        where = {"rows": edges(luma.shape[0], rows), "columns": edges(luma.shape[1], columns)}
        cells = self._engines[0].infer({"frame": frame, **where})["cells"]
        if not is_finite(cells):
            raise EngineError(f"the detector on {self._engines[0].backend} returned values that are not finite")
        return of_cells(cells[0], luma, longest_px, threshold)

    def aim(self, faces: Sequence[Points]) -> tuple[Affine, ...]:
        """See Eyes; nothing is cut yet."""
        self._looked_at()
        affines = tuple(similarity(points, self._side_px) for points in faces)
        self._places = places_of(affines) if affines else None
        return affines

    def read(self) -> Tensors:
        """See Eyes; `peaks` stands for `maps`."""
        if self._places is None:
            raise EngineError("there is no face to read")
        answer = self._engines[1].infer({"frame": self._looked_at(), "places": self._places})["answer"]
        return tensors_of(answer, self.manifest)

    def close(self) -> None:
        """Give everything back. Calling it twice is allowed."""
        for engine in self._engines:
            engine.close()
        self._shown.close()
        self._frame = self._places = None
        self._gpu.close()

    def _looked_at(self) -> Resident:
        if self._frame is None:
            raise EngineError("no picture was shown yet")
        return self._frame
