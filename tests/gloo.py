"""nnU-Net's training over several GPUs, in processes on a CPU: what it fixes to CUDA is replaced, and nothing else."""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel


def use_gloo(change: Callable[[Any], None] = lambda trainer: None) -> None:
    """Replace NCCL and CUDA devices in this process.

    Args:
        change: called with each trainer that is made.
    """
    from nnunetv2.run import run_training
    from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as nnunet

    from unetr_nnunet.trainers.unetr_trainer import nnUNetTrainerUNETR

    configure = nnUNetTrainerUNETR.configure

    def configure_for_cpu(trainer: nnUNetTrainerUNETR) -> None:
        trainer.device = torch.device("cpu")  # nnU-Net has just made it CUDA
        configure(trainer)
        trainer.logger.plot_progress_png = lambda folder: None
        change(trainer)

    def setup_ddp(rank: int, world_size: int) -> None:
        distributed.init_process_group("gloo", rank=rank, world_size=world_size, timeout=timedelta(minutes=10))

    nnUNetTrainerUNETR.configure = configure_for_cpu  # type: ignore[method-assign]
    nnunet.DDP = lambda network, device_ids: DistributedDataParallel(network)
    nnunet.GradScaler = lambda device: None
    run_training.setup_ddp = setup_ddp
    torch.cuda.set_device = lambda device: None
    torch.set_num_threads(1)


def set_up(rank: int, port: int, world_size: int = 2) -> None:
    """Join the group of processes that are to train together, as ``run_ddp`` does."""
    from nnunetv2.run import run_training

    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(port))
    use_gloo()
    run_training.setup_ddp(rank, world_size)
