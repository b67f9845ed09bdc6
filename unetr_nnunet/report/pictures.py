"""Draw the slices with most errors: CT with truth and prediction as contours, wrong voxels filled.

The CT is stored once for each slice and shared by all panels; contours are paths, so they stay sharp.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import contourpy
import numpy as np
import SimpleITK as sitk
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from unetr_nnunet.images.grid import grid_differences
from unetr_nnunet.images.label_maps import read_label_map
from unetr_nnunet.images.orientation import to_orientation
from unetr_nnunet.images.overlay import ABDOMINAL_WINDOW
from unetr_nnunet.images.read import read_image
from unetr_nnunet.organs import label_colours
from unetr_nnunet.report.svg import picture, tag

MARGIN_MM = 15.0
"""Around all organs of the slice."""
LONGEST_SIDE = 512
"""Pixels of a stored CT slice; a longer side is reduced."""
QUALITY = 82
WRONG_OPACITY = 150
LINE_PX = 1.3
PREDICTION_DASH = "4 2.5"

LabelMap = NDArray[np.integer]


@dataclass(frozen=True)
class Volumes:
    """A case, all arrays (Z, Y, X), z upwards, y to the back, x to the patient's left.

    Attributes:
        ct: HU; None where there is no image.
        truth: label map.
        predictions: label map by model; None where it does not lie on the truth's grid or cannot be read.
        spacing_mm: of the arrays (Z, Y, X).
    """

    ct: NDArray[Any] | None
    truth: LabelMap
    predictions: Mapping[str, LabelMap | None]
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True)
class SlicePictures:
    """One slice of a case.

    Attributes:
        title: which slice.
        image: the shared CT, to be put into the page once.
        truth: panel of CT and truth.
        panels: panel by model; None where it cannot be drawn.
    """

    title: str
    image: Markup
    truth: Markup
    panels: dict[str, Markup | None]


def read_volumes(label: Path, predictions: Mapping[str, Path], image: Path | None) -> tuple[Volumes, list[str]]:
    """Read a case.

    Returns:
        The volumes, and a problem for each file that could not be read.

    Raises:
        ValueError: the label map cannot be read.
    """
    problems = []
    truth = to_orientation(read_label_map(label)[0], "LPS")
    maps: dict[str, LabelMap | None] = {}
    for model, path in predictions.items():
        try:
            maps[model] = _on_grid(read_label_map(path)[0], truth, path)
        except (ValueError, OSError) as error:
            maps[model] = None
            problems.append(str(error))
    ct = None
    if image is not None:
        try:
            ct = _on_grid(read_image(image), truth, image)
        except (ValueError, OSError) as error:
            problems.append(str(error))
    x_mm, y_mm, z_mm = truth.GetSpacing()
    return Volumes(ct, sitk.GetArrayFromImage(truth), maps, (z_mm, y_mm, x_mm)), problems


def _on_grid(image: sitk.Image, truth: sitk.Image, path: Path) -> NDArray[Any]:
    """Return the voxels of an image that lies on the truth's grid, however its axes are stored."""
    oriented = to_orientation(image, "LPS")
    if differences := grid_differences(oriented, truth):
        raise ValueError(f"{path.name} is not drawn because its grid is not the label's: {'; '.join(differences)}")
    return sitk.GetArrayFromImage(oriented)


def wrong_slices(volumes: Volumes, ignore_label: int | None) -> list[tuple[int, int]]:
    """Return (axis, index) of the axial and of the coronal slice with most errors of all predictions together.

    A wrong voxel counts as its share of the organ, so that a missed adrenal gland counts as much as a missed liver.
    """
    truth = volumes.truth
    sizes = np.bincount(truth.ravel())
    highest = max(
        [len(sizes), *(int(label_map.max()) + 1 for label_map in volumes.predictions.values() if label_map is not None)]
    )
    weights = np.zeros(highest)
    weights[: len(sizes)] = 1 / np.maximum(sizes, 1)
    weights[len(sizes) :] = 1 / max(truth.size, 1)
    weights[weights == 1] = 1 / max(truth.size, 1)  # organs that truth does not hold
    weights[0] = 0
    axial, coronal = np.zeros(truth.shape[0]), np.zeros(truth.shape[1])
    for prediction in volumes.predictions.values():
        if prediction is None:
            continue
        for z, (true_slice, predicted_slice) in enumerate(zip(truth, prediction, strict=True)):
            wrong = true_slice != predicted_slice
            if ignore_label is not None:
                wrong &= true_slice != ignore_label
            rows, columns = np.nonzero(wrong)
            errors = weights[true_slice[rows, columns]] + weights[predicted_slice[rows, columns]]
            axial[z] += errors.sum()
            coronal += np.bincount(rows, errors, len(coronal))
    views = [(0, int(axial.argmax()))]
    return views if truth.shape[0] < 2 else [*views, (1, int(coronal.argmax()))]


def draw_slice(
    volumes: Volumes, view: tuple[int, int], labels: Mapping[str, int], ignore_label: int | None, identity: str
) -> SlicePictures:
    """Draw one slice of a case.

    Args:
        volumes: the case.
        view: axis (0 axial, 1 coronal) and index.
        labels: integer of each label by name; others are not drawn.
        ignore_label: voxels that are neither right nor wrong.
        identity: of the shared CT in the page, letters and digits.
    """
    axis, index = view
    planes = {
        model: None if label_map is None else _plane(label_map, view)
        for model, label_map in volumes.predictions.items()
    }
    truth = _plane(volumes.truth, view)
    pixel_mm = (volumes.spacing_mm[1 - axis], volumes.spacing_mm[2])
    window = _window([truth, *(plane for plane in planes.values() if plane is not None)], pixel_mm)
    truth = truth[window]
    height_mm, width_mm = truth.shape[0] * pixel_mm[0], truth.shape[1] * pixel_mm[1]
    ct = np.zeros(truth.shape) if volumes.ct is None else _plane(volumes.ct, view)[window]
    colours = label_colours(labels)
    drawing = _Drawing(identity, width_mm, height_mm, pixel_mm, colours, ignore_label)
    where = "axial" if axis == 0 else "coronal"
    count = volumes.truth.shape[axis]
    return SlicePictures(
        f"{where} slice {index + 1} of {count}",
        drawing.shared(ct),
        drawing.panel(truth, None, f"{where} slice with the true organs"),
        {
            model: None if plane is None else drawing.panel(truth, plane[window], f"{where} slice, {model}")
            for model, plane in planes.items()
        },
    )


def _plane(array: NDArray[Any], view: tuple[int, int]) -> NDArray[Any]:
    axis, index = view
    return array[index] if axis == 0 else array[::-1, index]  # coronal: head up


def _window(planes: Sequence[LabelMap], pixel_mm: tuple[float, float]) -> tuple[slice, slice]:
    """Return rows and columns around all labels; everything if there are no labels."""
    seen = np.any([plane > 0 for plane in planes], axis=0)
    if not seen.any():
        return slice(None), slice(None)
    edges = []
    for axis, size_mm in zip((1, 0), pixel_mm, strict=True):
        places = np.flatnonzero(seen.any(axis=axis))
        margin = round(MARGIN_MM / size_mm)
        edges.append(slice(max(int(places[0]) - margin, 0), int(places[-1]) + margin + 1))
    return edges[0], edges[1]


@dataclass(frozen=True)
class _Drawing:
    """Panels of one slice; coordinates in mm."""

    identity: str
    width_mm: float
    height_mm: float
    pixel_mm: tuple[float, float]
    colours: Mapping[int, tuple[int, int, int]]
    ignore_label: int | None

    def shared(self, ct: NDArray[Any]) -> Markup:
        low, high = ABDOMINAL_WINDOW
        grey = np.clip((ct.astype(np.float32) - low) / (high - low) * 255, 0, 255).astype(np.uint8)
        image = Image.fromarray(grey)
        scale = min(1.0, LONGEST_SIDE / max(image.size))
        if scale < 1:
            size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
            image = image.resize(size, Image.Resampling.LANCZOS)
        stored = self._image(_data_uri(image, quality=QUALITY), id=self.identity)
        return tag("svg", tag("defs", stored), width=0, height=0, class_="shared", aria_hidden="true")

    def panel(self, truth: LabelMap, prediction: LabelMap | None, label: str) -> Markup:
        shapes = [tag("use", href=f"#{self.identity}")]
        if prediction is not None:
            shapes.append(self._image(_data_uri(self._wrong(truth, prediction), lossless=True), class_="wrong"))
            shapes.append(self._contours(prediction, PREDICTION_DASH))
        shapes.append(self._contours(truth, None))
        return picture(self.width_mm, self.height_mm, label, *shapes, class_="slice")

    def _image(self, source: str, **attributes: str) -> Markup:
        size = {"width": self.width_mm, "height": self.height_mm}
        return tag("image", href=source, **size, preserveAspectRatio="none", **attributes)

    def _wrong(self, truth: LabelMap, prediction: LabelMap) -> Image.Image:
        """Fill wrong voxels with the colour of the organ put there, or of the one missed."""
        wrong = truth != prediction
        if self.ignore_label is not None:
            wrong &= truth != self.ignore_label
        shown = np.where(prediction > 0, prediction, truth)
        rgba = np.zeros((*truth.shape, 4), np.uint8)
        for label, colour in self.colours.items():
            rgba[wrong & (shown == label)] = (*colour, WRONG_OPACITY)
        return Image.fromarray(rgba)

    def _contours(self, plane: LabelMap, dash: str | None) -> Markup:
        paths = []
        for label, colour in self.colours.items():
            mask = plane == label
            if mask.any():
                stroke = "#" + "".join(f"{part:02x}" for part in colour)
                paths.append(tag("path", d=self._outline(mask), stroke=stroke, stroke_dasharray=dash))
        return tag("g", *paths, fill="none", stroke_width=LINE_PX, class_="contour")

    def _outline(self, mask: NDArray[np.bool_]) -> str:
        """Return the border of a mask as a path in mm, half way between inner and outer voxels."""
        padded = np.pad(mask.astype(np.float32), 1)
        lines: Any = contourpy.contour_generator(z=padded).lines(0.5)
        height, width = self.pixel_mm
        return "".join(
            "M" + "L".join(f"{(x - 0.5) * width:.1f} {(y - 0.5) * height:.1f}" for x, y in points[:-1]) + "Z"
            for points in lines
        )


def _data_uri(image: Image.Image, **options: Any) -> str:
    stream = io.BytesIO()
    image.save(stream, "WEBP", method=4, **options)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def legend(labels: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return (name, colour) of each label."""
    colours = label_colours(labels)
    return [(name, "#" + "".join(f"{part:02x}" for part in colours[number])) for name, number in labels.items()]
