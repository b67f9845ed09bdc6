"""Segment an image in memory with one or several trained models: the Python interface of ``unetr_nnunet predict``."""

import warnings
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import torch
from nibabel import orientations

from unetr_nnunet.images.orientation import like_input, to_orientation
from unetr_nnunet.images.read import refuse_not_finite
from unetr_nnunet.inference.array_image import array_as_images
from unetr_nnunet.inference.label_map import LogitsOnImage
from unetr_nnunet.inference.memory import Arrays
from unetr_nnunet.inference.model import Model
from unetr_nnunet.inference.out_of_memory import until_it_fits
from unetr_nnunet.inference.preparation import Prepared, prepare
from unetr_nnunet.inference.resampling import planned_resampling
from unetr_nnunet.inference.sliding_window import Placement, Progress, SlidingWindow


class Predictor:
    """Segments images with trained models.

    Args:
        models: one model, or several with the same labels, whose probabilities are averaged.
        device: "cpu", "cuda", "cuda:1", ...
        exact: do as nnU-Net does, view by view, in full precision and with air.
        scratch: folder for the files of cases that need more memory than is free; None for the system's.
        say: called with a line on what had to be done differently, among it each fall-back for lack of memory.
        postprocess: applied to each label map (Z, Y, X), such as `ModelSet.postprocess`.

    Raises:
        ValueError: if the models do not fit together.

    Example:
        >>> predictor = Predictor([load_model(Path("model"), folds=None)], "cuda")
        >>> mask = predictor.predict([sitk.ReadImage("ct.nii.gz")])
    """

    def __init__(
        self,
        models: Sequence[Model],
        device: str = "cpu",
        exact: bool = False,
        scratch: Path | None = None,
        say: Callable[[str], None] = warnings.warn,
        postprocess: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] = np.asarray,
    ) -> None:
        self.models, self.device, self.exact = list(models), torch.device(device), exact
        self.scratch, self._say, self.case_name = scratch, say, ""
        self._postprocess = postprocess
        first = self.models[0]
        for model in self.models[1:]:
            for what in ("labels", "channel_names"):
                if model.dataset.get(what) != first.dataset.get(what):
                    raise ValueError(
                        f"{model.folder} and {first.folder} differ in {what}: only models of the same labels and "
                        "channels can be averaged"
                    )

    def say(self, words: str) -> None:
        """Say something of the case at hand."""
        self._say(f"{self.case_name}: {words}" if self.case_name else words)

    def predict(self, channels: Sequence[sitk.Image], progress: Progress | None = None) -> sitk.Image:
        """Segment an image.

        Args:
            channels: one image a channel of the model, all on one grid, in any orientation.
            progress: called with the number of views of windows that are done, and of all.

        Returns:
            The label map, uint8 (uint16 above 255 labels), in the geometry of the first channel.

        Raises:
            ValueError: a voxel is NaN, infinite or beyond float32.
        """
        if len(self.models) > 1:
            code = self.models[0].orientation
            return self.decide(self.predict_probabilities(channels, code, progress), code, channels[0])
        model = self.models[0]
        self._check_values(channels)
        on_image, oriented, _ = self._logits(model, channels, progress)
        mask = on_image.label_map().transpose(model.plans.transpose_backward)
        return like_input(self._postprocess(mask), oriented, channels[0])

    def predict_array(
        self, image: npt.ArrayLike, spacing_mm: Sequence[float], progress: Progress | None = None
    ) -> npt.NDArray[np.uint8 | np.uint16]:
        """Segment an array whose axes run as those that the (first) model was trained on.

        Args:
            image: (Z, Y, X), or (C, Z, Y, X) with several channels; integers or floats.
            spacing_mm: (z, y, x).
            progress: see `predict`.

        Returns:
            The label of each voxel, (Z, Y, X).

        Raises:
            ValueError: see `predict` and `array_as_images`.
        """
        model = self.models[0]
        channels = array_as_images(image, spacing_mm, model.orientation, len(model.channel_names))
        return np.asarray(sitk.GetArrayFromImage(self.predict(channels, progress)))

    def predict_probabilities(
        self, channels: Sequence[sitk.Image], code: str, progress: Progress | None = None
    ) -> npt.NDArray[np.float16]:
        """Return the mean probabilities of all models.

        Args:
            channels: see `predict`.
            code: orientation, such as "RAS", that the axes of the result shall have.
            progress: see `predict`.

        Returns:
            (K, Z, Y, X) of each output; for region models, of each region.
        """
        self._check_values(channels)
        total: npt.NDArray[np.float16] | None = None
        for number, model in enumerate(self.models):
            outputs = int(model.labels.num_segmentation_heads)
            kept = 2 * outputs * prod(channels[0].GetSize()) * (1 + (len(self.models) > 1))
            on_image, oriented, arrays = self._logits(model, channels, self._share(progress, number), kept)
            shape = (outputs, *oriented.GetSize()[::-1])
            own: npt.NDArray[np.float16] = arrays.zeros(shape, torch.float16, torch.device("cpu")).numpy()
            transposed = own.transpose(0, *(axis + 1 for axis in model.plans.transpose_forward))  # a view
            for row, values in on_image.probabilities():
                transposed[:, row] = values / len(self.models)
            del on_image  # the next model's logits take its place
            own = own if model.orientation == code else _reoriented(own, model.orientation, code)
            total = own if total is None else np.add(total, own, out=total)
        return np.asarray(total)

    def decide(self, probabilities: npt.NDArray[np.float16], code: str, image: sitk.Image) -> sitk.Image:
        """Return the label map that probabilities amount to, in an image's geometry.

        Args:
            probabilities: (K, Z, Y, X).
            code: orientation of their axes.
            image: the first channel.
        """
        labels = np.asarray(self.models[0].labels.convert_probabilities_to_segmentation(probabilities))
        mask: npt.NDArray[np.uint8 | np.uint16] = labels.astype(np.uint8 if labels.max() < 256 else np.uint16)
        return like_input(self._postprocess(mask), to_orientation(image, code), image)

    def _check_values(self, channels: Sequence[sitk.Image]) -> None:
        """Refuse what is not finite, and say so where a CT holds neither air nor fat."""
        for number, image in enumerate(map(sitk.GetArrayViewFromImage, channels)):
            refuse_not_finite(image, f"channel {number}")
            if self.models[0].is_ct and image.min() >= 0:
                self.say(
                    f"voxel values {image.min()} to {image.max()} do not look like Hounsfield units; the segmentation "
                    "is probably meaningless"
                )

    def _share(self, progress: Progress | None, number: int) -> Progress | None:
        if progress is None:
            return None
        report: Callable[[int, int], None] = progress
        count = len(self.models)
        return lambda done, total: report(number * total + done, count * total)

    def _logits(
        self, model: Model, channels: Sequence[sitk.Image], progress: Progress | None, kept_bytes: int = 0
    ) -> tuple[LogitsOnImage, sitk.Image, Arrays]:
        oriented = [to_orientation(channel, model.orientation) for channel in channels]
        images = [sitk.GetArrayViewFromImage(channel) for channel in oriented]
        arrays = Arrays(self._needed_bytes(model, oriented) + kept_bytes, self.scratch)
        if arrays.in_files:
            self.say("needs more memory than is free: works in a file, which is slower")
        prepared = prepare(images, oriented[0].GetSpacing()[::-1], model, arrays, whole=self.exact)
        logits = self._run(prepared, model, arrays, progress)
        resampling = planned_resampling(model.configuration.configuration, "probabilities")
        if resampling is None:
            raise ValueError(
                f"{model.folder}: only nnUNetv2_predict can resample probabilities by "
                f"{model.configuration.configuration['resampling_fn_probabilities']}, which its plans name"
            )
        return LogitsOnImage(logits, prepared, resampling, model.labels, arrays, self.say), oriented[0], arrays

    def _run(self, prepared: Prepared, model: Model, arrays: Arrays, progress: Progress | None) -> torch.Tensor:
        def run(placement: Placement) -> torch.Tensor:
            windows = SlidingWindow(prepared.data, prepared.part, model, placement, arrays, self.exact, progress)
            return windows.run(model.parameters)

        return until_it_fits(run, Placement.on(self.device, self.exact), self.say)

    @staticmethod
    def _needed_bytes(model: Model, channels: Sequence[sitk.Image]) -> int:
        """Return about what a case takes beyond its image: the network's input, the logits, and the label map."""
        sizes = channels[0].GetSize(), channels[0].GetSpacing()
        target = model.configuration.spacing
        millimetres = prod(length * spacing for length, spacing in zip(*sizes, strict=True))
        flat = len(target) == 2
        voxel = prod(target) * (sizes[1][model.plans.transpose_forward.index(0)] if flat else 1)
        per_voxel = 4 * len(channels) + 2 * int(model.labels.num_segmentation_heads) + 5
        return int(millimetres / voxel * per_voxel + 3 * prod(sizes[0]))


def _reoriented(values: npt.NDArray[np.float16], code: str, wanted: str) -> npt.NDArray[np.float16]:
    """Return (K, Z, Y, X) with its axes turned from one orientation to another."""
    turn = orientations.ornt_transform(orientations.axcodes2ornt(code), orientations.axcodes2ornt(wanted))
    by_axes = values.transpose(3, 2, 1, 0)  # (X, Y, Z, K)
    return np.asarray(orientations.apply_orientation(by_axes, turn)).transpose(3, 2, 1, 0)
