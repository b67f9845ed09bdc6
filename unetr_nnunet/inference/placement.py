"""On which devices an image is predicted, and with how large batches."""

from dataclasses import dataclass

import torch

BATCH_VOXELS = 2**20
"""Windows are run together up to about this many voxels; on a CPU larger batches gain nothing."""

GPU_BATCH_VOXELS = 2**24
"""The same on a GPU. Up to 127 feature maps of such a batch stay within 2**31 elements, the limit of many kernels."""


@dataclass(frozen=True)
class Placement:
    """Where the work is done.

    Attributes:
        device: of the network.
        results: of the logits, and of the image while the network runs.
        batch_voxels: most voxels in one batch; a window is always run.
    """

    device: torch.device
    results: torch.device
    batch_voxels: int = BATCH_VOXELS

    @classmethod
    def on(cls, device: torch.device, one_by_one: bool = False) -> "Placement":
        """Return the placement to try first, with everything on the device.

        Args:
            device: where.
            one_by_one: whether every window is run by itself.
        """
        if one_by_one:
            return cls(device, device, 1)
        return cls(device, device, GPU_BATCH_VOXELS) if device.type == "cuda" else cls(device, device)

    def smaller(self) -> tuple["Placement", str] | None:
        """Return what to try when a GPU's memory is not enough, with a description; None if nothing is left."""
        if self.device.type == "cpu":
            return None
        if self.results.type != "cpu":
            cpu = torch.device("cpu")
            return Placement(self.device, cpu, self.batch_voxels), "keeping the logits in main memory"
        if self.batch_voxels > 1:
            return Placement(self.device, self.results, 1), "running one window at a time"
        return Placement(torch.device("cpu"), self.results), "running on the CPU"
