"""Which way the axes of nnU-Net's arrays run, as orientation codes.

A code such as "RAS" names the end of the patient that the x, the y and the z axis run to, in this order: nibabel's axis
codes and ITK's ``DICOMOrient`` agree in that. nnU-Net's arrays have the axes (z, y, x).
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from nibabel.affines import from_matvec
from nibabel.orientations import aff2axcodes

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
"""From SimpleITK's patient axes to nibabel's."""


def orientation_code(properties: dict[str, Any]) -> str:
    """Return the orientation code of a case's array as its image reader returned it.

    Args:
        properties: the case's properties as nnU-Net stores them beside its preprocessed data.

    Returns:
        Three letters for x, y, z; of an oblique image, the nearest ones.

    Raises:
        ValueError: if the properties hold no direction.
    """
    if "nibabel_stuff" in properties:
        stuff = properties["nibabel_stuff"]
        columns = np.asarray(stuff.get("reoriented_affine", stuff["original_affine"]))[:3, :3]
    elif "sitk_stuff" in properties and len(properties["sitk_stuff"]["direction"]) == 9:
        columns = LPS_TO_RAS @ np.reshape(properties["sitk_stuff"]["direction"], (3, 3))
    else:
        raise ValueError(
            f"no direction among the properties {sorted(properties)}: left and right are unknown to this image reader"
        )
    return "".join(aff2axcodes(from_matvec(columns)))


def common_orientation(cases: Iterable[tuple[str, dict[str, Any]]]) -> str | None:
    """Return the orientation code that all cases share; None where they differ or one has no direction.

    Args:
        cases: (name, properties) of each case.
    """
    common: str | None = None
    for _, properties in cases:
        try:
            code = orientation_code(properties)
        except ValueError:
            return None
        if common not in (None, code):
            return None
        common = code
    return common
