"""Segment an image in memory with one or several trained models: the Python interface of ``unetr_nnunet predict``."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import torch

from unetr_nnunet.images.orientation import like_input, to_orientation, turn_axes
from unetr_nnunet.images.read import refuse_not_finite
from unetr_nnunet.inference.array_image import array_as_images, refuse_other_images
from unetr_nnunet.inference.case_measures import measure_case
from unetr_nnunet.inference.case_size import grid_voxels, needed_bytes, probability_bytes
from unetr_nnunet.inference.fidelity import Fidelity
from unetr_nnunet.inference.label_map import LogitsOnImage
from unetr_nnunet.inference.memory import GIB, Arrays, free_bytes
from unetr_nnunet.inference.model import Model
from unetr_nnunet.inference.openvino_networks import OpenVINONetworks, openvino_is_installed
from unetr_nnunet.inference.out_of_memory import is_out_of_memory, until_it_fits
from unetr_nnunet.inference.placement import Placement
from unetr_nnunet.inference.preparation import Prepared, prepare
from unetr_nnunet.inference.quality import CaseMeasures
from unetr_nnunet.inference.sliding_window import Progress, SlidingWindow

logger = logging.getLogger(__name__)

LEAST_RANGE_HU = 100
"""Of a CT: from air or fat to soft tissue and bone it is many times as much."""


@dataclass(frozen=True)
class Segmentation:
    """What the networks make of an image.

    Attributes:
        mask: the label map, uint8 (uint16 above 255 labels), in the geometry of the first channel.
        probabilities: (K, Z, Y, X) of each output, or of each region, where they were asked for; else None.
        notes: what whoever uses the label map should know.
        measures: of the organs, see `quality.check_case`; of several models, what the first one finds.
        engines: what ran the networks: "PyTorch", "OpenVINO", or both.
    """

    mask: sitk.Image
    probabilities: npt.NDArray[np.float16] | None = None
    notes: tuple[str, ...] = ()
    measures: CaseMeasures | None = None
    engines: tuple[str, ...] = ()


class Predictor:
    """Segments images with trained models. What has to be done differently, say for lack of memory, is logged.

    Args:
        models: one model, or several with the same labels, whose probabilities are averaged.
        device: "cpu", "cuda", "cuda:1", ...
        fidelity: what may differ from nnU-Net's own prediction, see `Fidelity`.
        mirroring: whether to average mirrored views where the model was trained for them.
        scratch: folder for the files of cases that need more memory than is free; None for the system's.
        postprocess: applied to each label map (Z, Y, X), such as `ModelSet.postprocess`.

    Raises:
        ValueError: if the models do not fit together.

    Example:
        >>> predictor = Predictor([load_model("model")], "cuda")
        >>> mask = predictor.predict([sitk.ReadImage("ct.nii.gz")])
    """

    def __init__(
        self,
        models: Sequence[Model],
        device: str = "cpu",
        fidelity: Fidelity | str = Fidelity.DEFAULT,
        *,
        mirroring: bool = True,
        scratch: Path | None = None,
        postprocess: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] = np.asarray,
    ) -> None:
        self.models, self.device, self.fidelity = list(models), torch.device(device), Fidelity(fidelity)
        self.mirroring, self.scratch, self._postprocess = mirroring, scratch, postprocess
        on_cpu = self.device.type == "cpu" and self.fidelity is not Fidelity.EXACT and openvino_is_installed()
        self._openvino = [OpenVINONetworks(model) if on_cpu else None for model in self.models]
        if not self.models:
            raise ValueError("no model to predict with: give at least one")
        first = self.models[0]
        for model in self.models[1:]:
            for what, facts in _output_facts(model).items():
                if facts != _output_facts(first)[what]:
                    raise ValueError(
                        f"{model.folder} and {first.folder} differ in {what}: only models of the same labels and "
                        "channels can be averaged"
                    )

    def predict(self, channels: Sequence[sitk.Image], progress: Progress | None = None) -> sitk.Image:
        """Segment an image.

        Args:
            channels: one image a channel of the model, all on one grid, in any orientation.
            progress: called with the number of views of windows that are done, and of all.

        Returns:
            The label map, uint8 (uint16 above 255 labels), in the geometry of the first channel.

        Raises:
            ValueError: a voxel, or the network's output, is not finite.
            MemoryError: too little is free; with the figure that it would need.
        """
        return self.segment(channels, progress).mask

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
            MemoryError: see `predict`.
        """
        model = self.models[0]
        channels = array_as_images(image, spacing_mm, model.orientation, len(model.channel_names))
        return np.asarray(sitk.GetArrayFromImage(self.predict(channels, progress)))

    def segment(
        self, channels: Sequence[sitk.Image], progress: Progress | None = None, probabilities_in: str | None = None
    ) -> Segmentation:
        """Segment an image, with all that is known of the result.

        Args:
            channels: see `predict`.
            progress: see `predict`.
            probabilities_in: orientation, such as "RAS", of the axes of the probabilities; None for no probabilities.

        Raises:
            ValueError: see `predict`.
            MemoryError: see `predict`.
        """
        notes = self._check_values(channels)
        self._engines: set[str] = set()
        measures: CaseMeasures | None
        try:
            if len(self.models) == 1:
                mask, probabilities, measures = self._one_model(channels, progress, probabilities_in)
            else:
                code = probabilities_in or self.models[0].orientation
                probabilities, measures = self._mean_probabilities(channels, code, progress)
                mask = self._decide(probabilities, code, channels[0])
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error, torch.device("cpu")):
                raise
            needed = max(needed_bytes(model, channels) for model in self.models)
            raise MemoryError(
                f"it needs about {needed / GIB:.2f} GiB of memory and {free_bytes() / GIB:.2f} GiB are free: give the "
                "process more, or close other programs"
            ) from error
        engines = tuple(sorted(self._engines))
        return Segmentation(mask, probabilities if probabilities_in else None, notes, measures, engines)

    def _one_model(
        self, channels: Sequence[sitk.Image], progress: Progress | None, code: str | None
    ) -> tuple[sitk.Image, npt.NDArray[np.float16] | None, CaseMeasures]:
        model = self.models[0]
        kept = 0 if code is None else probability_bytes(model, channels)
        on_image, fold_maps, oriented, arrays = self._logits(0, channels, progress, kept)
        measures = measure_case(on_image, model, fold_maps, self._postprocess)
        mask = on_image.label_map().transpose(model.plans.transpose_backward)
        image = like_input(self._postprocess(mask), oriented, channels[0])
        probabilities = None if code is None else self._probabilities(model, on_image, oriented, arrays, code)
        return image, probabilities, measures

    def _mean_probabilities(
        self, channels: Sequence[sitk.Image], code: str, progress: Progress | None
    ) -> tuple[npt.NDArray[np.float16], CaseMeasures | None]:
        """Return the mean probabilities of all models, (K, Z, Y, X), with axes of this orientation, and measures."""
        measures: CaseMeasures | None = None
        total: npt.NDArray[np.float16] | None = None
        for number, model in enumerate(self.models):
            kept = 2 * probability_bytes(model, channels)
            on_image, fold_maps, oriented, arrays = self._logits(number, channels, self._share(progress, number), kept)
            measures = measures or measure_case(on_image, model, fold_maps, self._postprocess)
            own = self._probabilities(model, on_image, oriented, arrays, code)
            del on_image  # the next model's logits take its place
            total = own if total is None else np.add(total, own, out=total)
        return np.asarray(total), measures

    def _probabilities(
        self, model: Model, on_image: LogitsOnImage, oriented: sitk.Image, arrays: Arrays, code: str
    ) -> npt.NDArray[np.float16]:
        """Return one model's share of the mean probabilities, (K, Z, Y, X)."""
        shape = (int(model.labels.num_segmentation_heads), *oriented.GetSize()[::-1])
        own: npt.NDArray[np.float16] = arrays.zeros(shape, torch.float16, torch.device("cpu")).numpy()
        transposed = own.transpose(0, *(axis + 1 for axis in model.plans.transpose_forward))  # a view
        for row, values in on_image.probabilities():
            transposed[:, row] = values / len(self.models)
        return own if model.orientation == code else turn_axes(own, model.orientation, code)

    def _decide(self, probabilities: npt.NDArray[np.float16], code: str, image: sitk.Image) -> sitk.Image:
        """Return the label map of probabilities (K, Z, Y, X) with axes of this orientation, in an image's geometry."""
        labels = np.asarray(self.models[0].labels.convert_probabilities_to_segmentation(probabilities))
        mask: npt.NDArray[np.uint8 | np.uint16] = labels.astype(np.uint8 if labels.max() < 256 else np.uint16)
        return like_input(self._postprocess(mask), to_orientation(image, code), image)

    def _check_values(self, channels: Sequence[sitk.Image]) -> tuple[str, ...]:
        """Refuse what the models cannot take; return a note where a CT's values are not those of a CT."""
        refuse_other_images(channels, self.models[0].channel_names)
        notes = []
        for number, image in enumerate(map(sitk.GetArrayViewFromImage, channels)):
            refuse_not_finite(image, f"channel {number}")
            if self.models[0].is_ct and (image.min() >= 0 or image.max() - image.min() < LEAST_RANGE_HU):
                notes.append(
                    f"voxel values {image.min()} to {image.max()} do not look like Hounsfield units; the segmentation "
                    "is probably meaningless"
                )
                logger.warning(notes[-1])
        return tuple(notes)

    def _share(self, progress: Progress | None, number: int) -> Progress | None:
        if progress is None:
            return None
        report: Callable[[int, int], None] = progress
        count = len(self.models)
        return lambda done, total: report(number * total + done, count * total)

    def _logits(
        self, number: int, channels: Sequence[sitk.Image], progress: Progress | None, kept_bytes: int = 0
    ) -> tuple[LogitsOnImage, list[torch.Tensor], sitk.Image, Arrays]:
        """Return a model's mean logits, each fold's label map where there are several, the turned image, and arrays."""
        model = self.models[number]
        oriented = [to_orientation(channel, model.orientation) for channel in channels]
        images = [sitk.GetArrayViewFromImage(channel) for channel in oriented]
        arrays = Arrays(needed_bytes(model, oriented) + kept_bytes, self.scratch)
        if arrays.in_files:
            logger.warning("needs more memory than is free: works in a file, which is slower")
        spacing_mm = oriented[0].GetSpacing()[::-1]
        if openvino := self._openvino[number]:
            openvino.expect(int(grid_voxels(model, oriented)) << len(model.mirror_axes) * self.mirroring)

        def attempt(whole: bool) -> tuple[LogitsOnImage, list[torch.Tensor]]:
            prepared = prepare(images, spacing_mm, model, arrays, whole)
            logits, fold_maps = self._run(prepared, number, arrays, progress)
            return LogitsOnImage(logits, prepared, model.resampling, model.labels, arrays), fold_maps

        on_image, fold_maps = attempt(self.fidelity is Fidelity.EXACT)
        if on_image.reaches_the_edge():
            del on_image  # its memory is needed
            logger.info("something was found at the edge of the body: looking at the air around it, too")
            on_image, fold_maps = attempt(whole=True)
        return on_image, fold_maps, oriented[0], arrays

    def _run(
        self, prepared: Prepared, number: int, arrays: Arrays, progress: Progress | None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        model, openvino = self.models[number], self._openvino[number]

        def run(placement: Placement) -> tuple[torch.Tensor, list[torch.Tensor]]:
            windows = SlidingWindow(
                prepared.data,
                prepared.part,
                model,
                placement,
                arrays,
                self.fidelity,
                self.mirroring,
                progress,
                openvino,
            )
            logits = windows.run(model.parameters)
            self._engines |= windows.engines
            return logits, windows.fold_maps

        return until_it_fits(run, Placement.on(self.device, self.fidelity is Fidelity.EXACT))


def _output_facts(model: Model) -> dict[str, object]:
    """Return what models that are averaged must have in common; the order of regions is that of their outputs."""
    labels = model.dataset.get("labels", {})
    return {
        "labels": list(labels.items()) if model.labels.has_regions else labels,
        "regions_class_order": model.dataset.get("regions_class_order"),
        "channel_names": model.dataset.get("channel_names"),
    }
