"""Check what the planner reads before anything is computed; every error names the remedy."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw
from nnunetv2.preprocessing.normalization.default_normalization_schemes import CTNormalization
from nnunetv2.preprocessing.normalization.map_channel_name_to_normalization import get_normalization_scheme
from nnunetv2.utilities.dataset_name_id_conversion import find_candidate_datasets
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from unetr_nnunet.architectures.token_geometry import TOKEN_LENGTHS
from unetr_nnunet.nnunet.json_file import JSON_OBJECT, read_json
from unetr_nnunet.nnunet.plans_file import read_plans
from unetr_nnunet.planning.patch_search import spaced
from unetr_nnunet.planning.sizing import Given

FINGERPRINT_KEYS = (
    "spacings",
    "shapes_after_crop",
    "median_relative_size_after_cropping",
    "foreground_intensity_properties_per_channel",
)
DATASET_KEYS = ("labels", "numTraining", "file_ending")


def check_options(
    gpu_memory_gib: float, spacing_mm: Sequence[float] | None, given: Given, tflop_per_step: float | None
) -> None:
    """Refuse numbers that make no sense.

    Raises:
        ValueError: naming the option of ``unetr_nnunet plan``.
    """
    if not 0 < gpu_memory_gib < math.inf:
        raise ValueError(f"--gpu-memory {gpu_memory_gib:g}: must be a positive number of GiB")
    if tflop_per_step is not None and not 0 < tflop_per_step < math.inf:
        raise ValueError(f"--tflop-per-step {tflop_per_step:g}: must be a positive number")
    if spacing_mm is not None and (len(spacing_mm) != 3 or not all(0 < axis < math.inf for axis in spacing_mm)):
        raise ValueError(f"--spacing {spaced(spacing_mm)}: must be three positive lengths in mm, Z Y X")
    patch_size, token_size, batch_size = given.patch_size, given.token_size, given.batch_size
    if patch_size is not None and (len(patch_size) not in (2, 3) or min(patch_size) < 1):
        raise ValueError(f"--patch-size {spaced(patch_size)}: three positive numbers, Z Y X, or two for 2d, Y X")
    if token_size is not None:
        _check_token(token_size, patch_size)
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"--batch-size {batch_size}: must be at least 1")


def _check_token(token_size: Sequence[int], patch_size: Sequence[int] | None) -> None:
    if len(token_size) not in (2, 3) or not set(token_size) <= set(TOKEN_LENGTHS):
        lengths = ", ".join(map(str, TOKEN_LENGTHS))
        raise ValueError(f"--token-size {spaced(token_size)}: Z Y X, or Y X for 2d, each one of {lengths}")
    if patch_size is not None and len(patch_size) != len(token_size):
        raise ValueError(
            f"--token-size {spaced(token_size)} and --patch-size {spaced(patch_size)}: must have the same axes"
        )


def check_plans_name(plans_file: Path, planner: str) -> None:
    """Refuse a name of plans that nnU-Net cannot use or that belongs to plans of another planner.

    Args:
        plans_file: the file to be written.
        planner: class name of the planner that may replace it.

    Raises:
        ValueError: naming the file or the name.
    """
    name = plans_file.stem
    if not name.replace("_", "").isalnum() or "__" in name:
        raise ValueError(f"--name {name!r}: must be letters, digits and single underscores; nnU-Net splits at '__'")
    before = read_plans(plans_file)
    if before is not None and before.get("experiment_planner_used") != planner:
        made_by = before.get("experiment_planner_used", "an unknown planner")
        raise ValueError(f"{plans_file} was made by {made_by}: take another --name, it is not replaced")


def check_dataset(dataset_id: int) -> str:
    """Return the name of a data set whose raw folder and fingerprint are complete.

    Args:
        dataset_id: number of the data set.

    Raises:
        ValueError: naming the folder or file, what is wrong with it, and what to do.
    """
    for folder in (nnUNet_raw, nnUNet_preprocessed):
        if not folder.is_set():
            raise ValueError(
                f'{folder!r}: nnU-Net\'s folder is not known; run eval "$(unetr_nnunet env)", or export it'
            )
    names = find_candidate_datasets(dataset_id)
    if len(names) != 1:
        problem = f"is ambiguous ({', '.join(names)}): remove all but one" if len(names) else "is not there: convert it"
        raise ValueError(f"data set {dataset_id} {problem} (looked in {nnUNet_raw} and {nnUNet_preprocessed})")
    name = str(names[0])
    check_dataset_json(Path(nnUNet_raw) / name / "dataset.json")
    fingerprint = Path(nnUNet_preprocessed) / name / "dataset_fingerprint.json"
    remedy = (
        f"run nnUNetv2_extract_fingerprint -d {dataset_id}, or nnUNetv2_plan_and_preprocess -d {dataset_id} --no_pp"
    )
    content = read_json(fingerprint, JSON_OBJECT, remedy)
    missing = [key for key in FINGERPRINT_KEYS if not content.get(key)]
    if missing:
        raise ValueError(f"{fingerprint} has no {', '.join(missing)}: {remedy} --clean")
    if not all(len(spacing) == 3 and min(spacing) > 0 for spacing in content["spacings"]):
        raise ValueError(f"{fingerprint} has spacings that are not three positive lengths: {remedy} --clean")
    return name


def check_dataset_json(path: Path) -> None:
    """Refuse a ``dataset.json`` that lacks what a plan needs.

    Raises:
        ValueError: naming what is missing.
    """
    content = read_json(path, JSON_OBJECT, "convert the data set to nnU-Net's raw format first")
    missing = [key for key in DATASET_KEYS if key not in content]
    if missing:
        raise ValueError(f"{path} has no {', '.join(missing)}: see nnU-Net's documentation of the dataset format")
    if not channel_names(content):
        raise ValueError(f'{path} has no channel: add "channel_names": {{"0": "CT"}}')


def channel_names(dataset: dict[str, Any]) -> list[str]:
    """Return the names of the image channels in ``dataset.json``."""
    return list((dataset.get("channel_names") or dataset.get("modality") or {}).values())


def read_labels(dataset: dict[str, Any], folder: str) -> LabelManager:
    """Return nnU-Net's view of the labels or regions in ``dataset.json``.

    Args:
        dataset: its content.
        folder: where it lies, for the message.

    Raises:
        ValueError: if nnU-Net refuses the labels.
    """
    try:
        return LabelManager(dataset["labels"], dataset.get("regions_class_order"))
    except (AssertionError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{folder}/dataset.json: nnU-Net refuses its labels ({reason}): correct them") from error


def has_ct(dataset: dict[str, Any]) -> bool:
    """Return whether nnU-Net normalises any channel as CT."""
    return any(get_normalization_scheme(name) is CTNormalization for name in channel_names(dataset))
