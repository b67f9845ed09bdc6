"""An nnU-Net trainer that loses minutes, not hours, when its job is killed.

nnU-Net 2.8 writes its running checkpoint every 50 epochs and nothing at SIGTERM (MIC-DKFZ/nnUNet issue 2563). Here a
checkpoint is written every few minutes, also within an epoch, and when SIGTERM arrives; ``nnUNetv2_train --c`` goes on
with the next iteration. Files are replaced whole, so a kill while writing leaves the checkpoint before.
"""

import os
import shutil
import signal
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import load_pickle
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch._dynamo import OptimizedModule

from unetr_nnunet.atomic import atomic_path, remove_leftovers
from unetr_nnunet.images.orientation import common_orientation
from unetr_nnunet.nnunet.checkpoint import in_brief
from unetr_nnunet.trainers.training_labels import measure_training_labels

MINUTES_VARIABLE = "UNETR_NNUNET_CHECKPOINT_MINUTES"
DEFAULT_MINUTES = 10.0
EXIT_CODE_SIGTERM = 128 + signal.SIGTERM


class _TerminatedError(Exception):
    """SIGTERM arrived and the state has been saved."""


class ResumableTrainer(nnUNetTrainer):
    """`nnUNetTrainer` with a checkpoint every few minutes and at SIGTERM.

    The environment variable ``UNETR_NNUNET_CHECKPOINT_MINUTES`` sets the interval (default 10). The five constructor
    parameters are nnU-Net's, which reads their names from the signature; they are declared here only.

    Args:
        plans: content of the plans file.
        configuration: configuration in it, such as ``3d_fullres``.
        fold: fold of the cross-validation, or "all".
        dataset_json: content of ``dataset.json``.
        device: where to train.
    """

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's own signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.checkpoint_interval_s = _checkpoint_interval_s()
        self._last_checkpoint_s = time.monotonic()
        self._finished_steps: list[dict[str, Any]] = []  # what train_step returned so far in this epoch
        self._resumed_steps = 0  # how many of them a resumed epoch started with
        self._in_step = False
        self._terminate = False
        self.array_orientation: str | None = None  # of the training cases; known when the training starts
        self.configure()

    def configure(self) -> None:
        """Hook for subclasses, called at the end of the constructor: set what differs from nnU-Net's trainer."""

    @property
    def iterations_per_epoch(self) -> int:
        """Iterations of a whole epoch; in a resumed epoch nnU-Net's own number counts only those left."""
        return int(self.num_iterations_per_epoch) + self._resumed_steps

    @property
    def iteration(self) -> int:
        """Number of the next training iteration, counted from the start of the training."""
        return int(self.current_epoch) * self.iterations_per_epoch + len(self._finished_steps)

    # ---- the training loop's hooks ----

    def run_training(self) -> None:
        """Train as nnU-Net does; at SIGTERM save the state and exit with code 143."""
        if self.local_rank == 0:
            remove_leftovers(Path(self.output_folder))  # half-written checkpoints of a killed run
        process = os.getpid()

        def on_sigterm(signal_number: int, frame: FrameType | None) -> None:
            if os.getpid() == process:
                self._terminate = True
            else:  # an augmentation worker inherited this handler
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                os.kill(os.getpid(), signal.SIGTERM)

        in_main_thread = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGTERM, on_sigterm) if in_main_thread else None
        try:
            super().run_training()
            if self._terminate:  # it came after the last step; the final checkpoint is written
                raise SystemExit(EXIT_CODE_SIGTERM)
        except _TerminatedError:
            self._stop_augmentation_workers()
            raise SystemExit(EXIT_CODE_SIGTERM) from None
        except RuntimeError:
            # SIGTERM to the whole job also ends the augmentation workers, and nnU-Net then misses its next batch
            if not self._terminate or self._in_step:
                raise
            self._save_within_epoch("SIGTERM")
            raise SystemExit(EXIT_CODE_SIGTERM) from None
        finally:
            if in_main_thread:
                signal.signal(signal.SIGTERM, before)

    def _stop_augmentation_workers(self) -> None:
        for loader in (self.dataloader_train, self.dataloader_val):
            if hasattr(loader, "_finish"):
                loader._finish()

    def on_train_start(self) -> None:
        """Prepare the training as nnU-Net does, and note which way the axes of the training cases run."""
        for name in ("plans.json", "dataset.json", "dataset_fingerprint.json"):
            path = Path(self.output_folder_base) / name
            if path.exists() and not os.access(path, os.W_OK):  # another user's, in a shared folder
                path.unlink(missing_ok=True)  # nnU-Net writes it again
        super().on_train_start()
        if self.local_rank == 0:
            self.array_orientation = common_orientation(self.preprocessed_properties())
            self.print_to_log_file(measure_training_labels(self, self.array_orientation))

    def preprocessed_properties(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield name and properties of each preprocessed case, as the image reader and the preprocessor left them."""
        folder = Path(self.preprocessed_dataset_folder)
        for case in sorted(self.dataset_class.get_identifiers(str(folder))):
            yield case, load_pickle(str(folder / f"{case}.pkl"))

    def on_train_epoch_start(self) -> None:
        """Start an epoch, or go on with the one that a checkpoint was taken in."""
        super().on_train_epoch_start()
        self._resumed_steps = len(self._finished_steps)
        self.num_iterations_per_epoch -= self._resumed_steps
        if self._resumed_steps:
            self.print_to_log_file(f"continuing this epoch after iteration {self._resumed_steps}")

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Run one iteration; see `optimisation_step` for what it computes."""
        self._in_step = True
        output = self.optimisation_step(batch)
        self._finished_steps.append(output)
        self._in_step = False
        self._save_if_due()
        return output

    def optimisation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Update the weights with one batch and return its loss, as nnU-Net's ``train_step`` does."""
        return super().train_step(batch)

    def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
        """Log the mean loss over all iterations of the epoch, those before an interruption included."""
        self.num_iterations_per_epoch += self._resumed_steps
        self._resumed_steps = 0
        steps = _on_host(self._finished_steps)
        finite = [step for step in steps if np.isfinite(step["loss"])]
        if len(finite) < len(steps):
            self.print_to_log_file(
                f"train_loss is the mean of the {len(finite)} of {len(steps)} losses that are finite"
            )
        super().on_train_epoch_end(finite or steps)

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Validate on one batch as nnU-Net does."""
        output = super().validation_step(batch)
        self._save_if_due()
        return output

    def on_epoch_end(self) -> None:
        """Finish the epoch."""
        self._finished_steps = []
        super().on_epoch_end()

    # ---- checkpoints ----

    def _save_if_due(self) -> None:
        if self._terminate:
            self._save_within_epoch("SIGTERM")
            raise _TerminatedError
        if time.monotonic() - self._last_checkpoint_s > self.checkpoint_interval_s:
            self._save_within_epoch(f"{self.checkpoint_interval_s / 60:g} minutes since the last")

    def _save_within_epoch(self, why: str) -> None:
        self.current_epoch -= (
            1  # the checkpoint names the epoch to go on with, which save_checkpoint takes to be the next
        )
        try:
            self.save_checkpoint(str(Path(self.output_folder) / "checkpoint_latest.pth"))
        finally:
            self.current_epoch += 1
        step = len(self._finished_steps)
        self.print_to_log_file(f"checkpoint written within epoch {self.current_epoch} after iteration {step} ({why})")

    def save_checkpoint(self, filename: str) -> None:
        """Write nnU-Net's checkpoint, and two entries of our own, whole or not at all.

        ``finished_steps`` is what has been done of the running epoch. ``array_orientation`` is the orientation code of
        all training cases' arrays, such as "RAS", so that a prediction can bring its images to it; None where they
        differ or have none, and before the training starts.

        Args:
            filename: path of the ``.pth`` file.

        Raises:
            OSError: it could not be written; the message says how much room there is.
        """
        self._last_checkpoint_s = time.monotonic()
        if self.local_rank != 0:
            return
        if self.disable_checkpointing:
            self.print_to_log_file("No checkpoint written, checkpointing is disabled")
            return
        network = self.network.module if self.is_ddp else self.network
        if isinstance(network, OptimizedModule):
            network = network._orig_mod
        checkpoint = {
            "network_weights": network.state_dict(),
            "optimizer_state": self.optimizer.state_dict(),
            "grad_scaler_state": self.grad_scaler.state_dict() if self.grad_scaler is not None else None,
            "logging": self.logger.get_checkpoint(),
            "_best_ema": self._best_ema,
            "current_epoch": self.current_epoch + 1,
            "init_args": self.my_init_kwargs,
            "trainer_name": type(self).__name__,
            "inference_allowed_mirroring_axes": self.inference_allowed_mirroring_axes,
            "finished_steps": _on_host(self._finished_steps),
            "array_orientation": self.array_orientation,
        }
        with atomic_path(Path(filename)) as temporary:
            try:
                torch.save(checkpoint, temporary)
            except RuntimeError as error:  # torch's writer does not tell why
                free = shutil.disk_usage(temporary.parent).free / 2**20
                raise OSError(
                    f"{filename} could not be written, with {free:.0f} MiB free there ({error}); the checkpoint before "
                    "is kept: make room, then go on with --c"
                ) from error

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Restore the state of a checkpoint, the finished part of its epoch included.

        Args:
            filename_or_checkpoint: path of a ``.pth`` file of ours or of nnU-Net's own trainer. (A loaded checkpoint,
                which nnU-Net's signature allows, fails inside nnU-Net 2.8.) Where ``checkpoint_latest.pth`` is cut
                short, ``checkpoint_best.pth`` is loaded, as nnU-Net does where there is no latest.

        Raises:
            ValueError: the file is cut short, and no other can take its place; or it is of another network.
        """
        path = Path(filename_or_checkpoint)
        if path.is_file() and not zipfile.is_zipfile(path):  # a kill while nnU-Net's own trainer wrote it
            best = path.with_name("checkpoint_best.pth")
            if path.name != "checkpoint_latest.pth" or not zipfile.is_zipfile(best):
                raise ValueError(f"{path} is cut short: delete it; --c then goes on from the others, if any")
            self.print_to_log_file(f"{path} is cut short: going on from {best.name}")
            filename_or_checkpoint = str(best)
        try:
            super().load_checkpoint(filename_or_checkpoint)
        except (RuntimeError, ValueError) as error:  # of load_state_dict: network, then optimiser
            raise ValueError(
                f"{filename_or_checkpoint} does not fit this network and its optimiser ({in_brief(error)}): it was "
                "trained with other plans, or by another version of unetr_nnunet; train again without --c, or use those"
            ) from error
        checkpoint = torch.load(filename_or_checkpoint, map_location="cpu", weights_only=False, mmap=True)
        self._finished_steps = list(checkpoint.get("finished_steps", []))
        for values in self.logger.local_logger.my_fantastic_logging.values():
            del values[self.current_epoch :]  # the running epoch's entries are written again when it ends


def _on_host(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what steps returned with numpy arrays in place of tensors, as nnU-Net collects it."""
    return [
        {key: value.numpy(force=True) if isinstance(value, torch.Tensor) else value for key, value in step.items()}
        for step in steps
    ]


def _checkpoint_interval_s() -> float:
    text = os.environ.get(MINUTES_VARIABLE, str(DEFAULT_MINUTES))
    try:
        minutes = float(text)
    except ValueError:
        minutes = -1.0
    if not minutes >= 0:
        raise ValueError(f"{MINUTES_VARIABLE}={text!r} is not a number of minutes: set it to 10, say, or unset it")
    return 60 * minutes
