"""dlib's face network on luma: its file format, its weights in their place, norms that keep its answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch.nn import functional as F

from training.agcm.face_resnet import LumaFaceResNet, read_dlib, widened
from training.crop import CROP

# channels in, channels out, side of the kernel: every convolution in the order of dlib's file.
STAGES = ((32, 32, 6), (64, 64, 8), (128, 128, 6), (256, 256, 8))


def number(value: int) -> bytes:
    """dlib's integer: its length, then its bytes."""
    content = value.to_bytes(max(1, (value.bit_length() + 7) // 8), "little")
    return bytes([len(content)]) + content


def tensor(values: np.ndarray) -> bytes:
    sizes = b"".join(number(n) for n in (len(values), 1, 1, 1))
    return number(2) + sizes + values.astype("<f4").tobytes()


def layers() -> list[tuple[int, int, int]]:
    found, width = [(3, 32, 7)], 32
    for _, out, count in STAGES:
        for _ in range(count):
            found.append((width, out, 3))
            width = out
    return found


@pytest.fixture(scope="module")
def parameters() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    made = []
    for channels, out, side in layers():
        size = channels * side * side
        kernel = rng.normal(0, (2 / size) ** 0.5, out * size)
        made.append(np.concatenate([kernel, rng.normal(0, 0.1, out)]).astype(np.float32))
        made.append(np.concatenate([rng.uniform(0.5, 1.5, out), rng.normal(0, 0.1, out)]).astype(np.float32))
    return made


@pytest.fixture(scope="module")
def dat(parameters: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dlib") / "network.dat"
    between = b"\x06affine" + number(2) + number(7) + b"\x81\x05"
    path.write_bytes(between + between.join(tensor(values) for values in parameters) + between)
    return path


def test_every_tensor_of_the_file_is_read_in_order(dat: Path, parameters: list[np.ndarray]) -> None:
    found = read_dlib(dat)
    assert len(found) == len(parameters)
    for tensor_read, written in zip(found, parameters, strict=True):
        np.testing.assert_array_equal(tensor_read.numpy(), written)


def test_the_first_layer_answers_grey_as_the_published_one_answers_three_equal_planes(
    dat: Path, parameters: list[np.ndarray]
) -> None:
    network = LumaFaceResNet(8).eval()
    network.load(dat)
    grey = torch.randint(0, 256, (2, 1, 32, 32)).float()
    kernel, affine = (torch.from_numpy(values) for values in parameters[:2])
    weight, bias = kernel[:-32].reshape(32, 3, 7, 7), kernel[-32:]
    # The published layer pads nothing, so the rim differs.
    rgb = (grey.repeat(1, 3, 1, 1) - torch.tensor([122.782, 117.001, 104.298])[:, None, None]) / 256
    wanted = F.conv2d(rgb, weight, bias, 2, 3) * affine[:32, None, None] + affine[32:, None, None]
    luma = (grey / 255 - CROP.mean) / CROP.std
    got = network.stem(luma)
    torch.testing.assert_close(got[..., 2:-2, 2:-2], wanted[..., 2:-2, 2:-2], rtol=1e-4, atol=1e-4)


def test_settling_the_norms_keeps_the_answer_in_both_modes(dat: Path) -> None:
    torch.manual_seed(0)
    network = LumaFaceResNet(0).eval()
    network.load(dat)
    luma = torch.randn(4, 1, 64, 64)
    before = network(luma).detach()
    assert before.shape == (4, 128, 4, 4)
    # The first batch in training settles; the answer to it is then the same with its own and with kept statistics.
    trained = network.train()(luma).detach()
    assert bool(network.settled)
    torch.testing.assert_close(trained, before, rtol=1e-3, atol=1e-3 * float(before.std()))
    # That forward pass has moved the kept statistics by its own, which are those of a small sample.
    drift = (network.eval()(luma).detach() - before).abs().mean() / before.abs().mean()
    assert drift < 0.02


@pytest.mark.parametrize("times", [2, 3])
def test_a_wider_network_starts_with_the_answers_of_the_published_one(dat: Path, times: int) -> None:
    torch.manual_seed(0)
    narrow, wide = LumaFaceResNet(0).eval(), LumaFaceResNet(0, times).eval()
    narrow.load(dat)
    wide.load(dat)
    luma = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        wanted, got = narrow(luma).repeat_interleave(times, 1), wide(luma)
        assert wide.channels == got.shape[1] == times * 128
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3 * float(wanted.std()))
        # Settling keeps them: equal copies have equal statistics.
        torch.testing.assert_close(wide.train()(luma), wanted, rtol=1e-2, atol=1e-2 * float(wanted.std()))


def test_the_copies_of_a_channel_are_read_unevenly_and_learn_different_things(dat: Path) -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 3, 3, 3)
    wide = widened(weight, 2, 2)
    assert wide.shape == (8, 6, 3, 3)
    torch.testing.assert_close(wide[::2, ::2] + wide[::2, 1::2], weight)
    assert 0.1 < float((wide[:, ::2] - wide[:, 1::2]).abs().mean() / weight.abs().mean()) < 1.5
    torch.testing.assert_close(widened(weight, 1, 1), weight, rtol=0, atol=0)
    network = LumaFaceResNet(0, times=2).train()
    network.load(dat)
    network(torch.randn(4, 1, 64, 64)).square().mean().backward()
    slope = network.fine[4].second.conv.weight.grad
    assert slope is not None
    assert float((slope[::2] - slope[1::2]).abs().mean()) > 0.1 * float(slope.abs().mean())


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.dat"
    path.write_bytes(b"nothing of the kind" * 50)
    with pytest.raises(ValueError, match="is not dlib_face_recognition_resnet"):
        LumaFaceResNet(8).load(path)


def test_a_network_of_other_sizes_is_refused(parameters: list[np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "other.dat"
    path.write_bytes(b"".join(tensor(values) for values in [parameters[2], *parameters[1:]]))
    with pytest.raises(ValueError, match="none of dlib's face network"):
        LumaFaceResNet(8).load(path)


def test_a_slim_network_has_fewer_channels_inside_its_blocks_alone_and_no_file_to_start_from(dat: Path) -> None:
    wide, slim = LumaFaceResNet(24), LumaFaceResNet(24, slim=2)
    shapes = [{name: value.shape for name, value in net.state_dict().items()} for net in (wide, slim)]
    differing = {name for name in shapes[0] if shapes[0][name] != shapes[1][name]}
    assert differing and all(".first." in name or name.endswith("second.conv.weight") for name in differing)
    with pytest.raises(ValueError, match=r"a slim network starts from a wide one \(python -m training.slim\)"):
        slim.load(dat)


@pytest.mark.parametrize("side_px", [80, 112])
def test_the_grid_is_a_sixteenth_of_the_picture(side_px: int) -> None:
    network = LumaFaceResNet(24).eval()
    assert network(torch.zeros(1, 1, side_px, side_px)).shape == (1, 128 + 24, side_px // 16, side_px // 16)
