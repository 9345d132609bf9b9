"""What ships compiles for TensorRT, for which no GPU is needed; running it needs one."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from engines.spec import MODELS_DIR, load_model_file

trt = pytest.importorskip(
    "tensorrt_rtx", reason="tensorrt_rtx is not installed: pip install -e '.[dev]' on Linux, x86-64"
)

SIZES: Mapping[str, tuple[tuple[int, ...], ...]] = {
    "crop": ((1, 1, 112, 112), (1, 1, 112, 112), (64, 1, 112, 112)),
    "luma": ((1, 1, 64, 64), (1, 1, 192, 320), (1, 1, 384, 640)),
    "samples": ((1, 160), (1, 480), (1, 16_000)),
}
"""Least, usual and largest shape of the inputs whose shape is open."""
SHIPPED = [name for name in ("agcm-live", "agcm-voice", "centerface") if (MODELS_DIR / name / "model.onnx").is_file()]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_network_that_ships_compiles_for_tensorrt(name: str) -> None:
    file = load_model_file(name)
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse(file.path.read_bytes())
    assert parsed, [str(parser.get_error(i)) for i in range(parser.num_errors)]
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    assert {each.name for each in inputs} == {each.name for each in file.manifest.inputs}
    outputs = [network.get_output(i).name for i in range(network.num_outputs)]
    assert outputs == [each.name for each in file.manifest.outputs]
    settings, profile = builder.create_builder_config(), builder.create_optimization_profile()
    for each in inputs:
        if -1 in tuple(each.shape):
            profile.set_shape(each.name, *SIZES[each.name])
    settings.add_optimization_profile(profile)
    settings.num_compute_capabilities = 1
    settings.set_compute_capability(trt.ComputeCapability.SM86, 0)
    engine = builder.build_serialized_network(network, settings)
    assert engine is not None and engine.nbytes > file.path.stat().st_size / 2
