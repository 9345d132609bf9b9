"""The rasteriser on shapes whose picture is known."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from training.synthetic.raster import downscale, rasterise, vertex_normals

BLACK = np.zeros((8, 8, 1), np.float32)
CORNER = np.array([[0, 0, 0], [8, 0, 0], [0, 8, 0]], np.float32)
ONE = np.array([[0, 1, 2]], np.int32)


def test_a_triangle_covers_exactly_the_pixels_whose_centre_it_holds() -> None:
    drawn = rasterise(CORNER, np.ones((3, 1), np.float32), ONE, BLACK)[..., 0]
    y, x = np.mgrid[0:8, 0:8]
    np.testing.assert_array_equal(drawn, ((x + 0.5) + (y + 0.5) <= 8).astype(np.float32))
    assert not BLACK.any(), "the background is not drawn upon"


def test_the_other_winding_draws_the_same() -> None:
    colours = np.array([[0.1], [0.5], [0.9]], np.float32)
    np.testing.assert_allclose(
        rasterise(CORNER, colours, ONE, BLACK), rasterise(CORNER, colours, ONE[:, ::-1], BLACK), atol=1e-6
    )


def test_colours_are_interpolated_between_the_corners() -> None:
    colours = np.array([[0, 1], [8, 1], [0, 1]], np.float32)
    drawn = rasterise(CORNER, colours, ONE, np.zeros((8, 8, 2), np.float32))
    np.testing.assert_allclose(drawn[0, :8, 0], np.arange(8) + 0.5, atol=1e-4)
    np.testing.assert_allclose(drawn[0, :8, 1], 1, atol=1e-5)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearer_triangle_hides_the_other_in_any_order(order: tuple[int, int]) -> None:
    points = np.concatenate([CORNER, CORNER + np.float32([0, 0, 1])]).astype(np.float32)
    colours = np.repeat([[0.2], [0.7]], 3, axis=0).astype(np.float32)
    triangles = np.array([[0, 1, 2], [3, 4, 5]], np.int32)[list(order)]
    assert rasterise(points, colours, triangles, BLACK)[0, 0, 0] == pytest.approx(0.7)


def test_what_lies_outside_the_picture_or_has_no_area_is_left_out() -> None:
    outside, flat = CORNER + np.float32([100, 0, 0]), CORNER * [1, 0, 0]
    for points in (outside, flat):
        assert not rasterise(points.astype(np.float32), np.ones((3, 1), np.float32), ONE, BLACK).any()


def test_downscale_takes_the_mean_of_each_block() -> None:
    picture = np.arange(16, dtype=np.float32).reshape(4, 4, 1)
    np.testing.assert_allclose(downscale(picture, 2)[..., 0], [[2.5, 4.5], [10.5, 12.5]])


def test_normals_are_unit_vectors_and_zero_for_a_vertex_without_triangles() -> None:
    normals = vertex_normals(np.concatenate([CORNER, [[9, 9, 9]]]).astype(np.float32), ONE)
    np.testing.assert_allclose(normals, [[0, 0, 1]] * 3 + [[0, 0, 0]], atol=1e-6)
