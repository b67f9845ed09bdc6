"""`UNETRPlanner`: nnU-Net's planner with the patch, batch and token of a registered architecture.

Target spacing, transposition, reader, normalisation, resampling of images and labels, and which configurations there
are come from nnU-Net's own code. Probabilities are resampled by nnU-Net's torch function with the settings of its
``nnUNetPlannerResEncL_torchres_sepz``: linear in the plane, nearest neighbour across thick slices, as its default does.
"""

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.preprocessing.resampling.resample_torch import resample_torch_fornnunet
from nnunetv2.utilities.json_export import recursive_fix_for_json_export

from unetr_nnunet.architectures.planned import architecture_entry
from unetr_nnunet.architectures.registry import find, load
from unetr_nnunet.nnunet.plans_file import DEFAULT_PLANS, read_plans, share_preprocessed_data, write_plans
from unetr_nnunet.planning.inputs import (
    channel_names,
    check_dataset,
    check_options,
    check_plans_name,
    has_ct,
    read_labels,
)
from unetr_nnunet.planning.memory import UntraceableError
from unetr_nnunet.planning.nnunet_plan import NNUNetPlan, NNUNetPlanner
from unetr_nnunet.planning.patch_search import by
from unetr_nnunet.planning.sizing import Choice, Given, Sizing
from unetr_nnunet.planning.training_step import TrainingStep


class UNETRPlanner(ExperimentPlanner):
    """Plans for one architecture, size, memory and compute budget.

    Args:
        dataset_name_or_id: number of the data set.
        gpu_memory_target_in_gb: memory of the GPU in GiB.
        preprocessor_name: nnU-Net's.
        plans_name: name of the plans file; None for ``UNETRPlans_<architecture>[_<size>]``.
        overwrite_target_spacing: of 3d_fullres in mm, in the order of the image's axes; None for nnU-Net's rule.
        suppress_transpose: keep the order of the axes, where nnU-Net puts the one of the coarsest spacing first.
        architecture: name of a registered architecture.
        size: one of its sizes; empty for its default.
        patch_size: of 3d_fullres, or with two axes of 2d, in the order of the plans' axes; None to choose.
        token_size: of the same configuration; None to choose.
        batch_size: of the same configuration; None to choose.
        tflop_per_step: compute budget of a training step; None for twice what nnU-Net's own plan costs.
        progress: called with each training step whose memory is predicted, which takes a second or two.

    Attributes:
        main_configuration: the one that ``patch_size``, ``token_size`` and ``batch_size`` are meant for.
        choices: configuration → its `Choice`, once `plan_experiment` is done.
        left_out: configuration of nnU-Net's that these plans lack → why.
        shared_data: configurations that use the preprocessed data of nnU-Net's own plans.

    Raises:
        ValueError: on files that are missing or of another version, or options that cannot be met.
    """

    def __init__(
        self,
        dataset_name_or_id: str | int,
        gpu_memory_target_in_gb: float = 8,
        preprocessor_name: str = "DefaultPreprocessor",
        plans_name: str | None = None,
        overwrite_target_spacing: Sequence[float] | None = None,
        suppress_transpose: bool = False,
        *,
        architecture: str = "Modified",
        size: str = "",
        patch_size: Sequence[int] | None = None,
        token_size: Sequence[int] | None = None,
        batch_size: int | None = None,
        tflop_per_step: float | None = None,
        progress: Callable[[TrainingStep], object] = lambda step: None,
    ) -> None:
        given = Given(
            None if patch_size is None else tuple(patch_size),
            None if token_size is None else tuple(token_size),
            batch_size,
        )
        check_options(gpu_memory_target_in_gb, overwrite_target_spacing, given, tflop_per_step)
        name = check_dataset(int(dataset_name_or_id))
        registered = load(architecture)
        architecture, default_size = registered.name, registered.default_size
        size = size or default_size
        plans_name = plans_name or "_".join(["UNETRPlans", architecture, *([] if size == default_size else [size])])
        self.plans_file = Path(nnUNet_preprocessed) / name / f"{plans_name}.json"
        check_plans_name(self.plans_file, type(self).__name__)
        spacing_mm = None if overwrite_target_spacing is None else [float(axis) for axis in overwrite_target_spacing]
        default_plans_file = self.plans_file.with_name(f"{DEFAULT_PLANS}.json")
        self._default_plans = read_plans(default_plans_file, "repeat nnUNetv2_plan_experiment, or remove it")
        super().__init__(name, gpu_memory_target_in_gb, preprocessor_name, plans_name, spacing_mm, suppress_transpose)
        if not self.dataset:
            raise ValueError(f"{self.raw_dataset_folder}/imagesTr holds no training images: convert the data set again")
        labels = read_labels(self.dataset_json, self.raw_dataset_folder)
        template = TrainingStep(
            architecture,
            size,
            patch_size=(),
            batch_size=0,
            spacing_mm=(),
            token_size=(),
            in_channels=len(channel_names(self.dataset_json)),
            out_channels=labels.num_segmentation_heads,
            regions=labels.has_regions,
            ignore_label=labels.has_ignore_label,
        )
        self.sizing = Sizing(template, gpu_memory_target_in_gb, tflop_per_step, progress)
        self._nnunet = NNUNetPlanner(name, template.in_channels, template.out_channels)
        self.choices: dict[str, Choice] = {}
        self.left_out: dict[str, str] = {}
        self.shared_data: list[str] = []
        self.main_configuration = self._main_configuration(given)
        self._given = {self.main_configuration: given}

    def plan_experiment(self) -> dict[str, Any]:
        """Plan all configurations as nnU-Net does, without its print-out; write the plans file and return it."""
        with contextlib.redirect_stdout(io.StringIO()):
            plans: dict[str, Any] = super().plan_experiment()
        self.choices = {name: choice for name, choice in self.choices.items() if name in plans["configurations"]}
        return plans

    def get_plans_for_configuration(
        self,
        spacing: np.ndarray,
        median_shape: Sequence[float],
        data_identifier: str,
        approximate_n_voxels_dataset: float,
        _cache: dict[Any, Any],
    ) -> dict[str, Any]:
        """Return one configuration of the plans.

        Args:
            spacing: target spacing in mm, in the order of the plans' axes.
            median_shape: voxels per axis of the median image at that spacing.
            data_identifier: folder of the preprocessed data; ends with the name of the configuration.
            approximate_n_voxels_dataset: voxels of all training images at that spacing.
            _cache: nnU-Net's; not used.

        Raises:
            ValueError: if an axis of the image is shorter than the spacing, or a budget is too small.
        """
        if min(median_shape) < 1:
            raise ValueError(f"--spacing: the median image has no voxel at {by(list(spacing), 2)} mm: take a finer one")
        name = data_identifier.removeprefix(f"{self.plans_identifier}_")
        nnunet = self._nnunet.plan(list(spacing), median_shape, approximate_n_voxels_dataset)
        if name == "3d_fullres":
            self._fullres_mm = np.array(spacing) * np.array(median_shape)
        elif name == "3d_lowres":
            # nnU-Net coarsens the spacing until the patch holds a quarter of the image. Until its own patch does, only
            # that is returned: the spacing then is nnU-Net's, so data can be shared, and a choice takes seconds.
            image_voxels = np.prod(self._fullres_mm / spacing)
            if prod(nnunet.patch_size) < self.lowres_creation_threshold * image_voxels:
                return {"patch_size": list(nnunet.patch_size)}
        try:
            choice = self._choose(name, list(spacing), median_shape, approximate_n_voxels_dataset, nnunet)
        except _LeftOutError as error:
            self.left_out[name] = str(error)
            return {"patch_size": [round(axis) for axis in median_shape], "spacing": spacing}
        self.choices[name] = choice
        data, data_kwargs, seg, seg_kwargs = self.determine_resampling()
        probabilities, probabilities_kwargs = self.determine_segmentation_softmax_export_fn()
        schemes, masks = self.determine_normalization_scheme_and_whether_mask_is_used_for_norm()
        return {
            "data_identifier": data_identifier,
            "preprocessor_name": self.preprocessor_name,
            "batch_size": choice.step.batch_size,
            "patch_size": list(choice.step.patch_size),
            "median_image_size_in_voxels": median_shape,
            "spacing": spacing,
            "normalization_schemes": schemes,
            "use_mask_for_norm": masks,
            "resampling_fn_data": data.__name__,
            "resampling_fn_seg": seg.__name__,
            "resampling_fn_data_kwargs": data_kwargs,
            "resampling_fn_seg_kwargs": seg_kwargs,
            "resampling_fn_probabilities": probabilities.__name__,
            "resampling_fn_probabilities_kwargs": probabilities_kwargs,
            "architecture": architecture_entry(choice.step.architecture, **choice.step.planned),
        }

    def _choose(
        self, name: str, spacing: list[float], median_shape: Sequence[float], dataset_voxels: float, nnunet: NNUNetPlan
    ) -> Choice:
        architecture = self.sizing.template.architecture
        if len(spacing) not in load(architecture).dimensions:
            raise _LeftOutError(f"{find(architecture)} takes no {len(spacing)}-D patches")
        try:
            return self.sizing.choose(spacing, median_shape, dataset_voxels, nnunet, self._given.get(name))
        except UntraceableError as error:
            if name == self.main_configuration:
                raise
            raise _LeftOutError("its memory cannot be predicted") from error

    def determine_segmentation_softmax_export_fn(self, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Return nnU-Net's torch resampling of probabilities: the label maps of its default, in less time."""
        return resample_torch_fornnunet, {
            "is_seg": False,
            "force_separate_z": None,
            "memefficient_seg_resampling": False,
        }

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Write the plans file; where nnU-Net's own plans have the same data, ours name that folder."""
        plans["configurations"] = _without(plans["configurations"], self.left_out)
        recursive_fix_for_json_export(plans)
        self.shared_data = share_preprocessed_data(plans, self._default_plans) if self._default_plans else []
        write_plans(plans, self.plans_file)

    @property
    def has_ct(self) -> bool:
        """Whether nnU-Net normalises any channel as CT."""
        return has_ct(self.dataset_json)

    def spacing_source(self, configuration: str) -> str:
        """Describe where the target spacing of a configuration comes from."""
        if configuration == "3d_lowres":
            return "nnU-Net's rule: coarser until the patch holds a quarter of the median image"
        if self.overwrite_target_spacing is not None:
            return "given by --spacing"
        return "nnU-Net's rule: the images' median; their 10th percentile along a much thicker axis"

    def is_preprocessed(self, configuration: str) -> bool:
        """Return whether the data of a configuration is there because nnU-Net's own plans have the same."""
        identifier = self.plans["configurations"][configuration]["data_identifier"]
        return configuration in self.shared_data and self.plans_file.with_name(identifier).is_dir()

    def _main_configuration(self, given: Given) -> str:
        """Return 3d_fullres, or 2d if the images are 2-D or the given patch or token has two axes."""
        slices = np.median(self.dataset_fingerprint["shapes_after_crop"], 0)[self.determine_transpose()[0][0]]
        sizes = given.patch_size or given.token_size
        flat_only = 3 not in load(self.sizing.template.architecture).dimensions
        if sizes is None:
            return "2d" if slices == 1 or flat_only else "3d_fullres"
        if slices == 1 and len(sizes) == 3:
            option = "--patch-size" if given.patch_size else "--token-size"
            raise ValueError(f"{option}: the images of {self.dataset_name} are 2-D; give two numbers, Y X")
        return "2d" if len(sizes) == 2 else "3d_fullres"


class _LeftOutError(Exception):
    """A configuration cannot be planned for this architecture, and the others can."""


def _without(configurations: dict[str, Any], left_out: Mapping[str, str]) -> dict[str, Any]:
    """Return the configurations but those left out, and the cascade only with both of its stages."""
    kept = {name: entry for name, entry in configurations.items() if name not in left_out}
    if {"3d_lowres", "3d_fullres"} & set(left_out):
        kept.pop("3d_cascade_fullres", None)
        for entry in kept.values():
            entry.pop("next_stage", None)
    return kept
