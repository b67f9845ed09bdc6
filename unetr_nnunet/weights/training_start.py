"""Write a released UNETR as a start for trainings with ``nnUNetv2_train -pretrained_weights``.

nnU-Net's loader wants every tensor but those of ``seg_layers`` in the shape that the network has. Patch size and number
of labels therefore may differ from the released model's, the rest may not: the position table is interpolated to the
plan's token grid, and where the plans do not name the released network, a copy of them does. That copy shares the
preprocessed data with the original, and differs in one configuration's ``architecture`` only.
"""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from unetr_nnunet.architectures.planned import planned_fields
from unetr_nnunet.architectures.token_geometry import derive_token_size, nearest_patch_sizes
from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.nnunet.plans_file import read_plans
from unetr_nnunet.planning.patch_search import by, spaced
from unetr_nnunet.weights.axis_order import interpolate_positions, reorder_axes
from unetr_nnunet.weights.imported_model import MONAI_TO_NNUNET, TOKEN_SIZE, check_absent, planned_architecture
from unetr_nnunet.weights.released_unetr import TOKEN_LENGTH, ReleasedUNETR

_NEEDED = ("plans_name", "dataset_name", "transpose_forward", "image_reader_writer")


@dataclass(frozen=True)
class TrainingStart:
    """The files that `write_training_start` wrote, and what they are for.

    Attributes:
        weights: the checkpoint for ``-pretrained_weights``.
        plans_file: the plans to train with: those given, or a copy beside them that names the released network.
        dataset_name: data set of the plans.
        reader: the plans' image reader.
        grid: tokens per axis, in the plans' axis order.
    """

    weights: Path
    plans_file: Path
    dataset_name: str
    reader: str
    grid: tuple[int, ...]


def write_training_start(
    released: ReleasedUNETR,
    source: str,
    plans_file: Path,
    configuration: str,
    output: Path,
    *,
    overwrite: bool = False,
) -> TrainingStart:
    """Write the weights for the patch size and axis order of a plan, and plans that name their network.

    Args:
        released: the network.
        source: where its weights come from, for messages.
        plans_file: plans of the data set to train on.
        configuration: the configuration in them.
        output: the checkpoint to write.
        overwrite: replace existing files.

    Raises:
        FileExistsError: if a file to be written exists and ``overwrite`` is not set.
        ValueError: if the plans cannot be read, or their tokens, axes or channels are not the released network's.
    """
    plans, planned = _read_plans(plans_file, configuration)
    patch_size = [int(length) for length in planned.patch_size]
    _check_plan(released, source, f"{configuration} in {plans_file}", planned, patch_size)
    architecture = planned_architecture(released)
    names_it = planned.configuration["architecture"] == architecture
    name = plans["plans_name"] if names_it else f"{plans['plans_name']}_UNETRImported"
    target = plans_file if names_it else plans_file.with_name(f"{name}.json")
    for path in (output,) if names_it else (output, target):
        check_absent(path, overwrite)

    order = [MONAI_TO_NNUNET[axis] for axis in plans["transpose_forward"]]
    grid = tuple(length // TOKEN_LENGTH for length in patch_size)
    weights = reorder_axes(released.weights, order, released.grid, TOKEN_SIZE)
    weights = interpolate_positions(weights, [released.grid[axis] for axis in order], grid)
    with atomic_path(output) as temporary:
        torch.save({"network_weights": weights}, temporary)
    if not names_it:
        plans["plans_name"] = name
        plans["configurations"][configuration]["architecture"] = architecture
        with atomic_path(target) as temporary:
            temporary.write_text(json.dumps(plans, indent=4) + "\n", encoding="utf-8")
    return TrainingStart(output, target, plans["dataset_name"], plans["image_reader_writer"], grid)


def _read_plans(plans_file: Path, configuration: str) -> tuple[dict[str, Any], ConfigurationManager]:
    plans = read_plans(plans_file, remedy="give one from nnUNet_preprocessed")
    if plans is None:
        raise FileNotFoundError(f"{plans_file}: there is no such file; give a plans file from nnUNet_preprocessed")
    missing = [key for key in _NEEDED if key not in plans]
    if missing:
        raise ValueError(f"{plans_file} has no {', '.join(missing)}: plan the data set again with this nnU-Net")
    known = plans["configurations"]
    if configuration not in known:
        raise ValueError(f"{plans_file} has no configuration {configuration}: choose one of {', '.join(known)} with -c")
    try:
        with warnings.catch_warnings(action="ignore"):  # of an older nnU-Net's plans, which it converts
            planned = PlansManager(plans).get_configuration(configuration)
        _ = planned.patch_size, planned.normalization_schemes, planned.configuration["architecture"]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{configuration} in {plans_file} is no configuration of this nnU-Net ({type(error).__name__}: {error}): "
            "plan the data set again"
        ) from error
    return plans, planned


def _check_plan(
    released: ReleasedUNETR, source: str, where: str, planned: ConfigurationManager, patch_size: Sequence[int]
) -> None:
    if len(patch_size) != 3:
        raise ValueError(f"{where} is 2-D, and the UNETR in {source} is 3-D: choose another configuration with -c")
    channels = len(planned.normalization_schemes)
    if channels != released.in_channels:
        raise ValueError(
            f"{where} has {channels} image channels, and the UNETR in {source} takes {released.in_channels}: it can "
            "only start trainings on images with that many channels"
        )
    fields = planned_fields(planned.network_arch_class_name, planned.network_arch_init_kwargs)
    token_size = tuple(fields.get("token_size") or derive_token_size(patch_size))
    if token_size != TOKEN_SIZE:
        valid = dict.fromkeys(nearest_patch_sizes(patch_size, TOKEN_SIZE))  # smaller and larger, or one
        raise ValueError(
            f"{where} has tokens of {by(token_size)} voxels at a patch of {by(patch_size)}, and those of {source} "
            f"have {by(TOKEN_SIZE)}: plan tokens of that size, with a patch that they divide, such as "
            f"{' or '.join(map(by, valid))} (unetr_nnunet plan --token-size {spaced(TOKEN_SIZE)})"
        )
