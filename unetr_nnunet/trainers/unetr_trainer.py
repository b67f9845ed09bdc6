"""`nnUNetTrainerUNETR`: nnU-Net's trainer with a UNETR, a transformer's optimisation, and seeds.

Everything that differs between our trainers is data on the class (`settings`, parsed from its name); see `factory`.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import isfile, join, load_json
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from unetr_nnunet.architectures.checked_loss import CheckedLoss
from unetr_nnunet.architectures.networks import set_deep_supervision
from unetr_nnunet.architectures.registry import load
from unetr_nnunet.trainers.augmentation import (
    FOREGROUND_SHARE,
    POLICIES,
    PatchGeometry,
    intensity_window,
    policy_transforms,
)
from unetr_nnunet.trainers.mirroring import common_left_right_axis, spatial_axes_without
from unetr_nnunet.trainers.names import TrainerName
from unetr_nnunet.trainers.network import build_named_network, named_network, origin
from unetr_nnunet.trainers.parameter_groups import parameter_groups
from unetr_nnunet.trainers.precision import training_autocast, training_dtype, validation_arithmetic
from unetr_nnunet.trainers.recipes import WarmupDecay, recipe_of
from unetr_nnunet.trainers.resumable import ResumableTrainer
from unetr_nnunet.trainers.seeding import no_augmentation_workers, seed_everything, seeded_augmenter
from unetr_nnunet.trainers.step import optimisation_step
from unetr_nnunet.trainers.step_watch import MOST_SKIPPED, SkippedStep, StepWatch

TRAINING_STREAM, VALIDATION_STREAM, NETWORK_STREAM = range(3)


class nnUNetTrainerUNETR(ResumableTrainer):
    """A registered architecture inside nnU-Net v2, UNETR by default; the constructor's parameters are nnU-Net's."""

    settings = TrainerName()

    def configure(self) -> None:
        """Take recipe, length and deep supervision from the settings, and the precision from the environment."""
        architecture = load(self.settings.architecture)
        self.recipe = recipe_of(self.settings, architecture)
        self.transformer_parameters = architecture.transformer_parameters
        self.initial_lr = self.recipe.learning_rate
        self.weight_decay = self.recipe.weight_decay
        self.num_epochs = self.settings.epochs or self.recipe.epochs
        self.policy = POLICIES.get(self.settings.augmentation)
        if self.policy is not None:
            self.oversample_foreground_percent = FOREGROUND_SHARE
        # a subclass may build a network of its own; no architecture then says what it returns
        above = type(self).__mro__[: type(self).__mro__.index(nnUNetTrainerUNETR)]
        built_there = any("build_network_architecture" in vars(kind) for kind in above)
        self.planned_network = None if built_there else named_network(self.settings, self.configuration_manager)
        self.output_scales = self.planned_network.output_scales if self.planned_network else None
        self.enable_deep_supervision = self.output_scales is not None
        self.autocast_dtype, self.precision = training_dtype(self.device)
        if self.autocast_dtype != torch.float16:
            self.grad_scaler = None  # the others reach as far as float32
        self.step_watch = StepWatch(self.autocast_dtype, several=self.is_ddp)
        if self.device.type == "cpu" and "OMP_NUM_THREADS" in os.environ:
            # nnUNetv2_train takes all cores even if told otherwise; several folds side by side need a share each
            torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Build the network that the trainer's name describes, for the patch size and spacing of the plans.

        nnU-Net calls this on the class, in training and in prediction, so only the class and the plans may decide.

        Args:
            plans_manager: the plans.
            configuration_manager: the configuration to build for.
            num_input_channels: image channels.
            num_output_channels: output channels: classes with background, or regions.
            enable_deep_supervision: whether to return auxiliary outputs, where the architecture has any.

        Returns:
            A network from (B, C, Z, Y, X) images to (B, K, Z, Y, X) logits; without Z in a 2-D configuration.
        """
        return build_named_network(
            cls.settings, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision
        )

    def initialize(self) -> None:
        """Seed, where the name has a seed, then build network, optimizer and loss as nnU-Net does."""
        if self.settings.seed is not None:
            seed_everything(self.settings.seed)
        super().initialize()

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, WarmupDecay]:
        """Return AdamW and its schedule, both from the recipe."""
        optimizer = torch.optim.AdamW(
            parameter_groups(self.network, self.transformer_parameters, self.recipe),
            lr=self.initial_lr,
            betas=self.recipe.betas,
            fused=self.device.type in ("cpu", "cuda"),
        )
        return optimizer, WarmupDecay(optimizer, self.recipe, self.num_epochs)

    def optimisation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Update the weights with one batch.

        Args:
            batch: ``data`` (B, C, Z, Y, X) and ``target`` (B, 1, Z, Y, X), as nnU-Net's data loader makes them; with
                deep supervision a list of targets, highest resolution first.

        Returns:
            The batch's loss, a scalar on the device, under "loss".
        """
        step = self.iteration
        self.lr_scheduler.step(step / self.iterations_per_epoch)
        if self.settings.seed is not None:
            torch.manual_seed(
                int(np.random.SeedSequence([self.settings.seed, NETWORK_STREAM, step]).generate_state(1)[0])
            )
        data = batch["data"].to(self.device, non_blocking=True)
        target = batch["target"]
        if isinstance(target, list):
            target = [scale.to(self.device, non_blocking=True) for scale in target]
        else:
            target = target.to(self.device, non_blocking=True)
        loss, norm = optimisation_step(
            self.network,
            self.loss,
            self.optimizer,
            data,
            target,
            max_norm=self.recipe.max_gradient_norm,
            scaler=self.grad_scaler,
            autocast_dtype=self.autocast_dtype,
        )
        name = f"Epoch {self.current_epoch}, iteration {len(self._finished_steps)}"
        self.step_watch.note(name, batch.get("keys", ()), data, loss, norm)
        return {"loss": loss}

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Run one iteration, and log it if the one before was skipped.

        Raises:
            RuntimeError: the weights are not finite, or `MOST_SKIPPED` steps in a row were skipped.
        """
        output = super().train_step(batch)
        for step in self.step_watch.skipped(but_last=1):
            self._log_skipped(step)
        return output

    def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
        """Log the mean loss of the epoch, and its last step if that was skipped."""
        for step in self.step_watch.skipped(but_last=0):
            self._log_skipped(step)
        super().on_train_epoch_end(train_outputs)

    def _log_skipped(self, step: SkippedStep) -> None:
        self.print_to_log_file(str(step))
        if not all(torch.isfinite(parameter).all() for parameter in self.network.parameters()):
            raise RuntimeError(
                f"{step.name}: the weights are not finite. Start again, or from other weights; a checkpoint written "
                "now would hold them, so the one before is kept."
            )
        if step.in_a_row == MOST_SKIPPED:
            self._save_within_epoch(f"{MOST_SKIPPED} steps in a row were skipped")
            raise RuntimeError(
                f"{step.name}: this is the {MOST_SKIPPED}th step in a row that was skipped, because {step.reason}. The "
                f"weights are finite and saved, and --c goes on with other batches. If it stops again, {step.remedy}."
            )

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Validate on one batch as nnU-Net does, in the precision of the training."""
        with training_autocast(self.device, self.autocast_dtype):
            return super().validation_step(batch)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Predict and score the validation cases as nnU-Net does, in the precision of the training."""
        with validation_arithmetic(self.device, self.autocast_dtype):
            super().perform_actual_validation(save_probabilities)

    def on_train_start(self) -> None:
        """Prepare the training as nnU-Net does, and log its precision."""
        super().on_train_start()
        self.print_to_log_file(self.precision)
        if self.planned_network is not None:
            self.print_to_log_file(origin(self.planned_network, self.configuration_manager))

    def do_split(self) -> tuple[list[str], list[str]]:
        """Return nnU-Net's training and validation cases of the fold.

        Raises:
            ValueError: if the split file has no such fold. nnU-Net would draw a random split, and so train on cases
                that a fixed split holds out.
        """
        splits_file = join(self.preprocessed_dataset_folder_base, "splits_final.json")
        if self.fold != "all":
            folds = len(load_json(splits_file)) if isfile(splits_file) else 5
            if not 0 <= self.fold < folds:
                allowed = "0" if folds == 1 else f"0..{folds - 1}"
                raise ValueError(f"There is no fold {self.fold}: {splits_file} has folds {allowed}. Use one, or 'all'.")
        training, validation = super().do_split()
        return sorted(training), sorted(validation)  # fold "all" comes in the file system's order

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, bool, Any, Any]:  # noqa: N802
        """Return nnU-Net's augmentation geometry, without mirroring left to right where the name says so.

        The study's policies rotate by right angles only, so that a crop of the patch's own size is enough.
        """
        mirror_axes: tuple[int, ...] | None
        rotation, dummy_2d, initial_patch_size, mirror_axes = (
            super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        if self.policy is not None:
            initial_patch_size = np.array(self.configuration_manager.patch_size)
        if self.settings.mirroring == "NoLRFlip":
            axis = common_left_right_axis(self.preprocessed_properties(), self.plans_manager.transpose_forward)
            mirror_axes = spatial_axes_without(axis, mirror_axes, len(self.configuration_manager.patch_size))
        if self.policy is not None and not self.policy.flip:
            mirror_axes = None
        self.inference_allowed_mirroring_axes = mirror_axes
        return rotation, dummy_2d, initial_patch_size, mirror_axes

    def get_training_transforms(  # nnU-Net's is static, but called on the instance
        self,
        patch_size: Sequence[int],
        rotation_for_DA: Any,  # noqa: N803 - nnU-Net's own signature
        deep_supervision_scales: list[list[float]] | None,
        mirror_axes: tuple[int, ...] | None,
        do_dummy_2d_data_aug: bool,
        use_mask_for_norm: list[bool] | None = None,
        **labels: Any,
    ) -> BasicTransform:
        """Return nnU-Net's augmentation, or that of the policy in the trainer's name."""
        if self.policy is None:
            return super().get_training_transforms(
                patch_size,
                rotation_for_DA,
                deep_supervision_scales,
                mirror_axes,
                do_dummy_2d_data_aug,
                use_mask_for_norm=use_mask_for_norm,
                **labels,
            )
        geometry = PatchGeometry(tuple(patch_size), tuple(self.configuration_manager.spacing), tuple(mirror_axes or ()))
        window = intensity_window(self.plans_manager.foreground_intensity_properties_per_channel)
        augmentation = policy_transforms(self.policy, geometry, window)
        return ComposeTransforms([*augmentation, self.get_validation_transforms(deep_supervision_scales, **labels)])

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        """Return the scales of the network's outputs; nnU-Net takes them from a U-Net's strides in the plans."""
        if self.planned_network is None:
            return super()._get_deep_supervision_scales()
        return None if self.output_scales is None else [list(scale) for scale in self.output_scales]

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Switch the network between all outputs and the first, where it has several."""
        if self.enable_deep_supervision:
            network = self.network.module if self.is_ddp else self.network
            set_deep_supervision(getattr(network, "_orig_mod", network), enabled)  # torch.compile's wrapper

    def _build_loss(self) -> nn.Module:
        """Return nnU-Net's loss, which refuses logits of other shapes than the architecture says."""
        loss: nn.Module = super()._build_loss()
        outputs = self.label_manager.num_segmentation_heads
        return loss if self.planned_network is None else CheckedLoss(loss, self.planned_network, outputs)

    def get_dataloaders(self) -> tuple[Any, Any]:
        """Return iterators over training and validation batches; in a seeded run they repeat exactly."""
        seed = self.settings.seed
        if seed is None:
            training, validation = super().get_dataloaders()
            return training, validation
        with no_augmentation_workers():
            training, validation = super().get_dataloaders()
        workers = get_allowed_n_proc_DA()
        pin_memory = self.device.type == "cuda"
        rank = (self.local_rank,) if self.is_ddp else ()  # GPUs draw different batches
        first_validation = self.current_epoch * self.num_val_iterations_per_epoch
        return (
            seeded_augmenter(training.data_loader, (seed, TRAINING_STREAM, *rank), self.iteration, workers, pin_memory),
            seeded_augmenter(
                validation.data_loader,
                (seed, VALIDATION_STREAM, *rank),
                first_validation,
                (workers + 1) // 2,
                pin_memory,
            ),
        )
