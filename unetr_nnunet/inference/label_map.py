"""From logits on the network's grid to the label map, or the probabilities, of the image.

nnU-Net resamples the logits of all classes to the image's grid and then takes the largest: 14 classes of a CT are
2 GiB several times over. Here one class after the other is resampled, only in the box where it can win, against the
best so far: what is below the background at all grid points of a cell is below it inside the cell, too. This is done on
the device that holds the logits, as many slices at a time as its memory allows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from unetr_nnunet.inference.certainty import NetworkLabels, network_labels, written_integers
from unetr_nnunet.inference.memory import USABLE_SHARE, Arrays, free_on
from unetr_nnunet.inference.out_of_memory import until_it_fits
from unetr_nnunet.inference.preparation import Prepared
from unetr_nnunet.inference.resampling import Resampling, Stretch, resample

CHUNK_VOXELS = 2**22
"""At most so many voxels of the image are decided at once: few, for the caches of a CPU."""

BYTES_PER_VOXEL = 32
"""Memory for deciding a voxel: up to 19 bytes were measured, with as many logits as voxels or fewer."""

Box = tuple[tuple[int, int], ...]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Room:
    """Where logits are resampled.

    Attributes:
        device: of the logits.
        by_row: whether to decide one row of the image's first axis at a time, and to put new arrays into files.
    """

    device: torch.device
    by_row: bool = False

    def smaller(self) -> tuple["Room", str] | None:
        """Return what to try when memory is not enough, with a description; None if nothing is left."""
        if self.device.type != "cpu":
            return Room(torch.device("cpu")), "resampling the logits on the CPU"
        if not self.by_row:
            return Room(self.device, by_row=True), "resampling the logits row by row, in files"
        return None


class LogitsOnImage:
    """Mean logits, with the way to the voxels of the (transposed, cropped) image.

    Args:
        logits: (K, *part) mean over windows and folds, on the part of the network's grid that was looked at.
        prepared: where that part lies.
        resampling: how the plans resample logits.
        labels: what the logits stand for.
        arrays: makes the array of labels, and that of the logits if they have to be moved.
    """

    def __init__(
        self,
        logits: torch.Tensor,
        prepared: Prepared,
        resampling: Resampling,
        labels: LabelManager,
        arrays: Arrays,
    ) -> None:
        self.values, self.labels, self.prepared = logits, labels, prepared
        self.arrays, self.room = arrays, Room(logits.device)
        self.shape = tuple(box.stop - box.start for box in prepared.crop)
        self.orders = resampling.orders(prepared.network_spacing_mm, prepared.spacing_mm)

    def reaches_the_edge(self) -> bool:
        """Whether something is found at an edge of the part beyond which the network did not look."""
        return any(
            self._may_win(self.values.select(axis + 1, place)).any()
            for axis, ((start, stop), length) in enumerate(
                zip(self.prepared.part, self.prepared.network_shape, strict=True)
            )
            for place in ([0] if start > 0 else []) + ([-1] if stop < length else [])
        )

    def _may_win(self, values: torch.Tensor) -> torch.Tensor:
        """Return where each output beats the background, of logits (K, ...)."""
        return values > 0 if self.labels.has_regions else values[1:] > values[:1]

    def label_map(self) -> npt.NDArray[np.uint8 | np.uint16]:
        """Return the label of each voxel of the transposed image, (Z, Y, X)."""
        return self._where_it_fits(self._label_map)

    def network_labels(self) -> NetworkLabels:
        """Return the label map of the part of the network's grid that was looked at, and how certain it is."""
        return self._where_it_fits(lambda: network_labels(self.values, self.labels))

    def _where_it_fits(self, work: Callable[[], Found]) -> Found:
        """Do some work on the logits; if memory runs out, move them, for this and for later work."""

        def attempt(room: Room) -> Found:
            self.room = room
            self.arrays.in_files |= room.by_row
            if self.values.device != room.device:
                moved = self.arrays.zeros(self.values.shape, self.values.dtype, room.device)
                for output in range(len(moved)):
                    for z in range(moved.shape[1]):  # a full GPU has no room to make all of a view contiguous
                        moved[output, z].copy_(self.values[output, z])
                self.values = moved
            return work()

        return until_it_fits(attempt, self.room)

    def _label_map(self) -> npt.NDArray[np.uint8 | np.uint16]:
        small = max(written_integers(self.labels)) < 256
        found = self.arrays.zeros(self.shape, torch.uint8 if small else torch.int16, self.room.device)
        boxes, rows = self._boxes(), self._rows_at_once()
        for start in range(0, self.shape[0], rows):
            inside = {output: _rows(box, start, start + rows) for output, box in boxes.items()}
            self._decide(found, {output: box for output, box in inside.items() if box[0][0] < box[0][1]})
        result = np.zeros(self.prepared.image_shape, np.uint8 if small else np.uint16)
        result[self.prepared.crop] = found.cpu().numpy()
        return result

    def _rows_at_once(self) -> int:
        """Return how many rows of the image's first axis fit in memory together, at least one."""
        if self.room.by_row:
            return 1
        logits_per_voxel = max(1.0, prod(self.prepared.network_shape) / prod(self.shape))
        fitting = int(USABLE_SHARE * free_on(self.room.device) / (BYTES_PER_VOXEL * logits_per_voxel))
        return max(1, min(CHUNK_VOXELS, fitting) * self.shape[0] // prod(self.shape))

    def _decide(self, found: torch.Tensor, boxes: dict[int, Box]) -> None:
        """Write the winner of each voxel of the boxes, by output, into a label map of zeros."""
        labels = written_integers(self.labels)
        if self.labels.has_regions:
            for region, box in boxes.items():
                found[_slices(box)].masked_fill_(self._resampled(region, box) > 0, labels[region])
        elif boxes:
            sides = [list(zip(*side, strict=True)) for side in zip(*boxes.values(), strict=True)]
            union = tuple((min(starts), max(stops)) for starts, stops in sides)
            best = self._resampled(0, union)
            for output, box in boxes.items():
                pairs = zip(box, union, strict=True)
                within = best[tuple(slice(start - low, stop - low) for (start, stop), (low, _) in pairs)]
                values = self._resampled(output, box)
                found[_slices(box)].masked_fill_(values > within, labels[output])
                torch.maximum(within, values, out=within)

    def probabilities(self) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Yield each row of the transposed image's first axis and its probabilities, (K, Y, X).

        Outside what was looked at, everything is background.
        """
        crop, whole = self.prepared.crop, self.prepared.image_shape
        looked_at = self._image_box(tuple((0, stop - start) for start, stop in self.prepared.part))
        inside = tuple(
            slice(span.start + start, span.start + stop)
            for span, (start, stop) in zip(crop[1:], looked_at[1:], strict=True)
        )
        for row in range(whole[0]):
            values = np.zeros((self.values.shape[0], *whole[1:]), np.float32)
            if not self.labels.has_regions:
                values[0] = 1
            place = row - crop[0].start
            if looked_at[0][0] <= place < looked_at[0][1]:
                box = ((place, place + 1), *looked_at[1:])
                values[(slice(None), *inside)] = self._where_it_fits(partial(self._probabilities, box))
            yield row, values

    def _probabilities(self, box: Box) -> npt.NDArray[np.float32]:
        """Return each output's probabilities on a row of the image, (K, Y, X)."""
        logits = torch.stack([self._resampled(output, box)[0] for output in range(self.values.shape[0])])
        return np.asarray(self.labels.apply_inference_nonlin(logits).cpu())

    def _boxes(self) -> dict[int, Box]:
        """Return the box of the image outside which an output cannot win, the background left out."""
        if 3 in self.orders:  # splines overshoot
            whole = tuple((0, length) for length in self.values.shape[1:])
            return {output: self._image_box(whole) for output in self._foreground()}
        rows = [
            torch.zeros((len(self._foreground()), length), dtype=torch.bool, device=self.values.device)
            for length in self.values.shape[1:]
        ]
        for z in range(self.values.shape[1]):
            wins = self._may_win(self.values[:, z])
            along_y = wins.any(2)
            rows[0][:, z] = along_y.any(1)
            rows[1] |= along_y
            rows[2] |= wins.any(1)
        on_cpu = [row.cpu() for row in rows]
        boxes = {}
        for index, output in enumerate(self._foreground()):
            places = [torch.nonzero(row[index])[:, 0] for row in on_cpu]
            if len(places[0]):
                boxes[output] = self._image_box(tuple((int(axis[0]) - 1, int(axis[-1]) + 2) for axis in places))
        return boxes

    def _foreground(self) -> range:
        return range(0 if self.labels.has_regions else 1, self.values.shape[0])

    def _image_box(self, box: Sequence[tuple[int, int]]) -> Box:
        """Return the image's voxels whose centres lie within a box of the looked-at part."""
        found = []
        for axis, (start, stop) in enumerate(box):
            offset = self.prepared.part[axis][0]
            scale = self.shape[axis] / self.prepared.network_shape[axis]
            first = int(np.ceil((max(start, 0) + offset) * scale - 0.5))
            last = int(np.ceil((min(stop, self.values.shape[axis + 1]) + offset) * scale - 0.5))
            found.append((max(0, first), min(self.shape[axis], last)))
        return tuple(found)

    def _resampled(self, output: int, box: Box) -> torch.Tensor:
        """Return an output's logits on a box of the image, float32."""
        part = self.prepared.part
        stretches = [
            Stretch(length, new_length, *bounds)
            for length, new_length, bounds in zip(self.prepared.network_shape, self.shape, box, strict=True)
        ]
        offsets, source = [], []
        for axis, (stretch, order) in enumerate(zip(stretches, self.orders, strict=True)):
            first, last = stretch.needed(order)
            first, last = max(first, part[axis][0]), min(last, part[axis][1])
            offsets.append(first)
            source.append(slice(first - part[axis][0], last - part[axis][0]))
        return resample(self.values[(slice(output, output + 1), *source)].float(), offsets, stretches, self.orders)[0]


def _rows(box: Box, start: int, stop: int) -> Box:
    """Return the part of a box that lies between two rows of the first axis."""
    return (max(box[0][0], start), min(box[0][1], stop)), *box[1:]


def _slices(box: Box) -> tuple[slice, ...]:
    return tuple(slice(start, stop) for start, stop in box)
