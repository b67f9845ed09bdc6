"""Map the labels of a data set to the 13 organs of BTCV, and merge several label files into one label map.

A data set has one label map for each case, or one file for each organ; both are layers here. Structures that are not
among the 13 become background.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.dataset_conversion.image_checks import Volume
from unetr_nnunet.dataset_conversion.source_files import SourceFile
from unetr_nnunet.images.nifti import open_nifti, write_nifti
from unetr_nnunet.organs import BACKGROUND, ORGAN_NAMES, find_organ

BTCV_VALUES: dict[int, int] = {value: value for value in (BACKGROUND, *ORGAN_NAMES)}
"""The values of a label map that already holds the 13 organs."""


@dataclass(frozen=True)
class LabelLayer:
    """One label file of a case.

    Attributes:
        file: the label map.
        values: organ id of every value that the file may hold; 0 for structures that are not among the 13 organs.
    """

    file: SourceFile
    values: Mapping[int, int]

    @property
    def highest(self) -> int:
        """The highest value that the file may hold."""
        return max(self.values)

    @property
    def is_kept(self) -> bool:
        """The values are those of BTCV already."""
        return all(value == organ for value, organ in self.values.items())


def organ_values(names: Sequence[str]) -> dict[int, int]:
    """Return the organ id of each label value.

    Args:
        names: the data set's own names of the labels 1, 2, ...
    """
    organs = (find_organ(name) for name in names)
    mapped = {value: organ.id if organ else BACKGROUND for value, organ in enumerate(organs, start=1)}
    return {BACKGROUND: BACKGROUND} | mapped


def absent_organs(values: Collection[int]) -> tuple[int, ...]:
    """Return the ids of the organs that a data set with these organ ids does not draw."""
    return tuple(organ for organ in ORGAN_NAMES if organ not in values)


def write_label_map(layers: Sequence[LabelLayer], image: Volume, target: Path) -> None:
    """Merge the layers into one uint8 label map with the header geometry of its image.

    The values of each layer are known to be whole and among ``values``. Where two layers claim a voxel, the later one
    has it.
    """
    flat = np.zeros(math.prod(image.shape), np.uint8)
    for layer in layers:
        _add(layer, flat)
    header = image.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    with atomic_path(target) as temporary:
        write_nifti(flat.reshape(image.shape[::-1]), image.header.get_best_affine(), temporary, header)


def _add(layer: LabelLayer, flat: npt.NDArray[np.uint8]) -> None:
    """Write the organs of one file over ``flat``, which follows the file's order of voxels."""
    organs = np.zeros(256, np.uint8)
    organs[list(layer.values)] = list(layer.values.values())
    with layer.file.open() as stream:
        position = 0
        for chunk in open_nifti(stream).values():
            drawn = organs[chunk.astype(np.uint8)]
            part = flat[position : position + chunk.size]
            np.copyto(part, drawn, where=drawn != BACKGROUND)
            position += chunk.size
