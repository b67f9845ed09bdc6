"""Measure what the networks found in a case, on the network's grid, for `quality.check_case`."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt
import torch

from unetr_nnunet.inference.certainty import fold_dice
from unetr_nnunet.inference.label_map import LogitsOnImage
from unetr_nnunet.inference.model import Model
from unetr_nnunet.inference.quality import CaseMeasures
from unetr_nnunet.nnunet.label_integers import integer_labels, region_integers
from unetr_nnunet.nnunet.organ_measures import axis_ends, ct_intensities, measure_organs


def measure_case(
    on_image: LogitsOnImage,
    model: Model,
    fold_maps: Sequence[torch.Tensor],
    postprocess: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
) -> CaseMeasures:
    """Measure a case.

    Args:
        on_image: mean logits.
        model: that they are of.
        fold_maps: label map of each fold on the same grid, (Z, Y, X); none with one fold.
        postprocess: applied to the label map, as to that of the image.
    """
    prepared, plans = on_image.prepared, model.plans.plans
    found = on_image.network_labels()
    regions = region_integers(model.dataset)
    part = tuple(slice(*bounds) for bounds in prepared.part)
    sides = zip(prepared.part, prepared.network_shape, prepared.crop, prepared.image_shape, strict=True)
    organs = measure_organs(
        postprocess(found.labels),
        regions,
        prepared.network_spacing_mm,
        axis_ends(model.orientation, model.plans.transpose_forward),
        ct_intensities(prepared.data[0][part].numpy(), plans, model.configuration.normalization_schemes[0]),
        tuple(
            (start == 0 and crop.start == 0, stop == length and crop.stop == whole)
            for (start, stop), length, crop, whole in sides
        ),
    )
    integers = integer_labels(model.dataset)
    return CaseMeasures(
        organs,
        {organ: found.probabilities[integers[organ]] for organ in organs if integers[organ] in found.probabilities},
        {organ: dice for organ, dice in fold_dice(fold_maps, regions).items() if organ in organs},
    )
