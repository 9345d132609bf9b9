"""What a training runs on: one CPU, a GPU, several, or several hosts, through Lightning Fabric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from training.experiment import ExperimentError

Accelerator = Literal["auto", "cpu", "gpu"]
Precision = Literal["bf16-mixed", "32-true"]


@dataclass(frozen=True, slots=True)
class Hardware:
    """accelerator: auto takes a GPU where there is one. devices: of each host. nodes: hosts. precision: bf16-mixed
    keeps weights and losses in 32 bits. loaders: processes that make batches ahead of each device; 0: none.
    """

    accelerator: Accelerator = "auto"
    devices: int = 1
    nodes: int = 1
    precision: Precision = "bf16-mixed"
    loaders: int = 0


def launched(hardware: Hardware) -> Fabric:
    """Fabric with every process started. Raises ExperimentError if there is no such hardware."""
    if hardware.devices < 1 or hardware.nodes < 1:
        raise ExperimentError("--devices and --nodes must be at least 1")
    several = hardware.devices * hardware.nodes > 1
    try:
        fabric = Fabric(
            accelerator=hardware.accelerator,
            devices=hardware.devices,
            num_nodes=hardware.nodes,
            precision=hardware.precision,
            # What is frozen for a part of the run has no gradient to wait for.
            strategy=DDPStrategy(find_unused_parameters=True) if several else "auto",
        )
    except (RuntimeError, ValueError) as error:  # Fabric's own MisconfigurationException is among them
        raise ExperimentError(f"no such hardware: {str(error).strip().splitlines()[0]}") from error
    fabric.launch()
    return fabric
