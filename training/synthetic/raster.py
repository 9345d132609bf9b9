"""A z-buffer triangle rasteriser: Gouraud colours, square supersampling, area downscale."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]


def rasterise(points: F32, colours: F32, triangles: I32, background: F32) -> F32:
    """Draw triangles over a background.

    points [V, 3]: x and y in pixels (pixel centres at .5), and depth, nearer is larger.
    colours [V, C]; triangles [T, 3] in any winding; background [H, W, C]. Returns a new [H, W, C].
    """
    out = np.ascontiguousarray(background, np.float32).copy()
    depth = np.full(out.shape[:2], -np.inf, np.float32)
    _fill(
        np.ascontiguousarray(points, np.float32),
        np.ascontiguousarray(colours, np.float32),
        np.ascontiguousarray(triangles, np.int32),
        out,
        depth,
    )
    return out


def downscale(picture: F32, factor: int) -> F32:
    """Mean of every factor x factor block: [H*f, W*f, C] -> [H, W, C]."""
    height, width, channels = picture.shape
    blocks = picture.reshape(height // factor, factor, width // factor, factor, channels)
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32)


def vertex_normals(vertices: F32, triangles: I32) -> F32:
    """Unit normals [V, 3], area-weighted over the triangles of each vertex (zero where it has none)."""
    out = np.zeros_like(vertices)
    _accumulate_normals(vertices, triangles, out)
    return out


@numba.njit(cache=True)
def _accumulate_normals(vertices: F32, triangles: I32, out: F32) -> None:
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        vx, vy, vz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for i in (a, b, c):
            out[i, 0] += nx
            out[i, 1] += ny
            out[i, 2] += nz
    for i in range(out.shape[0]):
        length = np.sqrt(out[i, 0] ** 2 + out[i, 1] ** 2 + out[i, 2] ** 2)
        if length > 0:
            for k in range(3):
                out[i, k] /= length


@numba.njit(cache=True, fastmath=True)
def _fill(points: F32, colours: F32, triangles: I32, out: F32, depth: F32) -> None:
    height, width, channels = out.shape
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, bx, by, cx, cy = points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[c, 0], points[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < 1e-9:
            continue
        x0, x1 = max(0, int(np.ceil(min(ax, bx, cx) - 0.5))), min(width - 1, int(np.floor(max(ax, bx, cx) - 0.5)))
        y0, y1 = max(0, int(np.ceil(min(ay, by, cy) - 0.5))), min(height - 1, int(np.floor(max(ay, by, cy) - 0.5)))
        for y in range(y0, y1 + 1):
            py = y + 0.5
            for x in range(x0, x1 + 1):
                px = x + 0.5
                wa = ((bx - px) * (cy - py) - (by - py) * (cx - px)) / area
                wb = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) / area
                wc = 1.0 - wa - wb
                if wa < -1e-6 or wb < -1e-6 or wc < -1e-6:
                    continue
                z = wa * points[a, 2] + wb * points[b, 2] + wc * points[c, 2]
                if z > depth[y, x]:
                    depth[y, x] = z
                    for k in range(channels):
                        out[y, x, k] = wa * colours[a, k] + wb * colours[b, k] + wc * colours[c, k]
