"""Read and write plans files, and share preprocessed data with nnU-Net's own plans."""

import json
from pathlib import Path
from typing import Any

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.nnunet.json_file import JSON_OBJECT, read_json

DEFAULT_PLANS = "nnUNetPlans"

PLANNED_CONFIGURATIONS = ("2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres")

SHARED_BY_PLANS = (
    "transpose_forward",
    "image_reader_writer",
    "foreground_intensity_properties_per_channel",
)
SHARED_BY_CONFIGURATION = (
    "preprocessor_name",
    "spacing",
    "normalization_schemes",
    "use_mask_for_norm",
    "resampling_fn_data",
    "resampling_fn_data_kwargs",
    "resampling_fn_seg",
    "resampling_fn_seg_kwargs",
)


def share_preprocessed_data(plans: dict[str, Any], default: dict[str, Any]) -> list[str]:
    """Give configurations the data identifier of nnU-Net's own plans where the preprocessed data would be the same.

    Args:
        plans: our plans; changed in place.
        default: nnU-Net's own plans.

    Returns:
        The configurations that share their data.
    """
    if any(plans[key] != default.get(key) for key in SHARED_BY_PLANS):
        return []
    shared = []
    for name, configuration in plans["configurations"].items():
        theirs = default.get("configurations", {}).get(name, {})
        if "spacing" in configuration and all(configuration[key] == theirs.get(key) for key in SHARED_BY_CONFIGURATION):
            configuration["data_identifier"] = theirs["data_identifier"]
            shared.append(name)
    return shared


def read_plans(path: Path, remedy: str = "remove it, or take another --name") -> dict[str, Any] | None:
    """Return the content of a plans file, or None if missing.

    Args:
        path: the file.
        remedy: what to do where it is wrong.

    Raises:
        ValueError: if it is not a plans file of this version of nnU-Net.
    """
    if not path.is_file():
        return None
    plans = read_json(path, JSON_OBJECT, remedy)
    configurations = plans.get("configurations")
    if not isinstance(configurations, dict) or not all(isinstance(entry, dict) for entry in configurations.values()):
        raise ValueError(f"{path} is not a plans file of nnU-Net v2: {remedy}")
    return plans


def write_plans(plans: dict[str, Any], path: Path) -> None:
    """Write a plans file whole, and keep the configurations that someone has added to the one before.

    nnU-Net keeps its own old ones too; here they go, since they were made for another memory target.
    """
    before = read_plans(path) or {"configurations": {}}
    added = {name: entry for name, entry in before["configurations"].items() if name not in PLANNED_CONFIGURATIONS}
    plans["configurations"].update(added)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(plans, indent=4))
