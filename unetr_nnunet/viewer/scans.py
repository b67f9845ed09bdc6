"""The contents of the viewer: CTs, and layers of label maps over them."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from unetr_nnunet.images.files import VOLUME_ENDINGS, find_label_files, pair_names, volume_ending
from unetr_nnunet.nnunet.label_table import HIGHEST_LABEL, LabelTable, find_label_table
from unetr_nnunet.organs import label_colours
from unetr_nnunet.viewer.confinement import GivenPaths
from unetr_nnunet.viewer.volumes import coarse, nifti_bytes, prepared_ct, read_mask


@dataclass(frozen=True)
class Scan:
    """A CT.

    Attributes:
        name: its case.
        files: that it is read from.
        read: returns the image, in HU; raises ValueError or OSError if it cannot.
    """

    name: str
    files: tuple[Path, ...]
    read: Callable[[], sitk.Image]


@dataclass(frozen=True)
class Layer:
    """Label maps of one origin: the truth, or the predictions of one model.

    Attributes:
        title: for the reader.
        table: what its labels mean.
        masks: label map file by case.
        is_truth: drawn as outlines at first, where others are filled.
        unused: names of label maps that belong to no case.
    """

    title: str
    table: LabelTable
    masks: Mapping[str, Path]
    is_truth: bool = False
    unused: tuple[str, ...] = ()


def make_layers(masks: Sequence[Path], labels: Path | None, cases: Sequence[str]) -> list[Layer]:
    """Find the label maps of each case by their names, see `unetr_nnunet.images.files.pair_names`.

    Args:
        masks: folders of predictions, or, where there is one case only, files.
        labels: folder (or file) of the truth, None if missing.
        cases: names of the CTs.

    Returns:
        The truth first, then the predictions in the order given.

    Raises:
        ValueError: a folder is missing or holds no label map, a ``dataset.json`` is wrong, or a file is given for
            several cases.
    """
    sources = [*([labels] if labels else []), *masks]
    titles = _distinct_titles(masks)
    layers = []
    for index, source in enumerate(sources):
        is_truth = labels is not None and index == 0
        title = "truth" if is_truth else titles[index - (labels is not None)]
        masks_of_case, unused = _masks_of(source, cases)
        folder = source.parent if source.is_file() else source
        table = find_label_table(folder, labels if labels and labels.is_dir() else folder)
        layers.append(Layer(title, table, masks_of_case, is_truth, unused))
    return layers


def _masks_of(source: Path, cases: Sequence[str]) -> tuple[dict[str, Path], tuple[str, ...]]:
    if source.is_file():
        if len(cases) > 1:
            raise ValueError(f"{source} is one file for {len(cases)} CTs: give the folder, or one CT")
        if not volume_ending(source):
            raise ValueError(f"{source} is not a label map ({', '.join(VOLUME_ENDINGS)})")
        return {cases[0]: source}, ()
    files = {name: paths[0] for name, paths in find_label_files(source).items()}
    paired = {case: files.pop(name) for case, name in pair_names(cases, files).items()}
    return paired, tuple(files)


def _distinct_titles(paths: Sequence[Path]) -> list[str]:
    """Return the last part of each path, and as many before it as it takes to tell them apart."""
    parts = [path.resolve().parts for path in paths]
    longest = max(map(len, parts), default=1)
    for length in range(1, longest + 1):
        titles = ["/".join(path_parts[-length:]) for path_parts in parts]
        if len(set(titles)) == len(titles):
            return titles
    return [f"{title} ({number})" for number, title in enumerate(titles, start=1)]


class ViewedScans:
    """CTs and layers, by number, as the page asks for them.

    Args:
        scans: the CTs.
        layers: label maps over them.
        given: where files may be read from.
    """

    def __init__(self, scans: Sequence[Scan], layers: Sequence[Layer], given: GivenPaths) -> None:
        self.scans, self.layers = tuple(scans), tuple(layers)
        self._given = given
        self._lock = threading.Lock()  # one volume at a time, however many are asked for
        self._last_ct: tuple[int, sitk.Image] | None = None

    def contents(self) -> dict[str, Any]:
        """Return what the page lists: ``cases`` with the numbers of their layers, and ``layers`` with their labels."""
        return {
            "cases": [
                {"name": scan.name, "layers": [i for i, layer in enumerate(self.layers) if scan.name in layer.masks]}
                for scan in self.scans
            ],
            "layers": [
                {"title": layer.title, "is_truth": layer.is_truth, "labels": _labels(layer.table)}
                for layer in self.layers
            ],
        }

    def ct(self, case: int) -> bytes:
        """Return a CT as NIfTI.

        Raises:
            LookupError: there is no such case.
            ValueError: the file is refused; in one line.
            OSError: it cannot be opened.
        """
        with self._lock:
            return nifti_bytes(self._read_ct(case))

    def mask(self, case: int, layer: int, thinned: bool = False) -> tuple[bytes, str]:
        """Return a label map on its CT's grid as NIfTI, and a remark for the reader, or "".

        Args:
            case: number of the case.
            layer: number of the layer.
            thinned: coarser, for the 3-D view.

        Raises:
            LookupError: there is no such case or layer.
            ValueError: a file is refused; in one line.
            OSError: it cannot be opened.
        """
        path = self.layers[layer].masks[self.scans[case].name]
        with self._lock:
            self._given.refuse_outside(path)
            image, word = read_mask(path, self._read_ct(case))
            return nifti_bytes(coarse(image) if thinned else image), word

    def _read_ct(self, case: int) -> sitk.Image:
        if self._last_ct is None or self._last_ct[0] != case:
            scan = self.scans[case]
            self._last_ct = None  # free its memory first
            for path in scan.files:
                self._given.refuse_outside(path)
            self._last_ct = case, prepared_ct(scan.read())
        return self._last_ct[1]


def _labels(table: LabelTable) -> list[dict[str, Any]]:
    """Return number, name and colour of every label that a map can hold; those outside the table are named so."""
    names = {label: name for name, label in (table.not_scored | table.organs).items()}
    if table.ignore_label is not None:
        names[table.ignore_label] = "ignored"
    named = {names.get(label, f"label {label}"): label for label in range(1, HIGHEST_LABEL + 1)}
    colours = label_colours(named)
    return [{"label": label, "name": name.replace("_", " "), "colour": colours[label]} for name, label in named.items()]
