"""What is written for a case, whole or not at all; the label map comes last, so that its presence means "done"."""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import SimpleITK as sitk

from unetr_nnunet.atomic import atomic_path, remove_leftovers
from unetr_nnunet.images.cases import Case
from unetr_nnunet.images.dicom_seg import write_dicom_seg
from unetr_nnunet.images.files import in_utf8
from unetr_nnunet.images.grid import notes_of
from unetr_nnunet.images.label_maps import write_mask
from unetr_nnunet.inference.case_inputs import ASSUMED, CaseInputs
from unetr_nnunet.inference.label_colours import write_label_tables
from unetr_nnunet.inference.model import Model
from unetr_nnunet.inference.predictor import Segmentation
from unetr_nnunet.inference.probabilities import reader_properties, refuse_reader, write_probabilities
from unetr_nnunet.inference.quality import Flags, check_case
from unetr_nnunet.inference.quality_table import QualityTable
from unetr_nnunet.inference.volumes_table import CaseTable, VolumesTable, organ_volumes
from unetr_nnunet.nnunet.label_integers import integer_labels, region_integers
from unetr_nnunet.nnunet.label_statistics import TrainingStatistics

logger = logging.getLogger(__name__)

ENDING = ".nii.gz"
MARK_FILE = ".models"
_LONGEST_NAME = 255
"""Bytes of a file's name."""


class ExtraFailed(Exception):  # noqa: N818 - says what failed
    """The label map is written, something beside it could not be."""


class Preview(Protocol):
    """Draws a label map over a CT."""

    def __call__(
        self, ct: sitk.Image, label_maps: dict[str, sitk.Image], picture: Path, labels: dict[str, int]
    ) -> None:
        """Write ``picture``."""


@dataclass
class Outputs:
    """The output folder.

    Attributes:
        folder: where everything goes.
        model: the (first) model; its labels are written.
        volumes: the table of organ volumes.
        save_probabilities: also write nnU-Net's probabilities.
        dicom_seg: also write DICOM-SEG for DICOM input.
        preview: draws a PNG of each case; None for none.
        statistics: of the training labels, which each case is compared with; None where they are unknown.
        assumed_orientation: of images whose header does not tell it; None where they are refused.

    Raises:
        ValueError: probabilities cannot be saved for this model.
    """

    folder: Path
    model: Model
    volumes: VolumesTable
    save_probabilities: bool = False
    dicom_seg: bool = False
    preview: Preview | None = None
    statistics: TrainingStatistics | None = None
    assumed_orientation: str | None = None

    def __post_init__(self) -> None:
        if self.save_probabilities:
            refuse_reader(self.model.plans.image_reader_writer_class)
        self.labels, self.regions = integer_labels(self.model.dataset), region_integers(self.model.dataset)
        path = self.volumes.path
        self.notes = CaseTable(path.with_name(path.name.replace("volumes", "notes")), ("case", "note"))
        self.quality = QualityTable(path.with_name(path.name.replace("volumes", "quality")))
        self.inputs = CaseInputs(path.with_name(path.name.replace("volumes", ".inputs")))
        self._tables: tuple[CaseTable, ...] = (self.volumes, self.notes, self.quality, self.inputs)

    def mask_path(self, case: Case) -> Path:
        """Return where a case's label map goes."""
        return self.folder / (case.name + ENDING)

    def refuse_name(self, case: Case) -> None:
        """Refuse a case whose outputs would have a name too long, or lie in another folder.

        Raises:
            ValueError: with a remedy.
        """
        path = self.mask_path(case)
        if path.parent != self.folder:
            raise ValueError(f"{case.name} is no name of a file: rename the case's file or folder")
        if len(os.fsencode(path.name)) > _LONGEST_NAME:
            raise ValueError(
                f"its label map's name would be longer than {_LONGEST_NAME} bytes: shorten the case's name"
            )

    def is_done(self, case: Case) -> bool:
        """Whether a case has its label map, made from the files that it has now, and all that is wanted beside it."""
        endings = [ENDING]
        endings += [".dcm"] if self.dicom_seg and case.is_dicom else []
        endings += [".png"] if self.preview else []
        endings += [".npz", ".pkl"] if self.save_probabilities else []
        try:
            return not self.inputs.differ(case, self.assumed_orientation) and all(
                (self.folder / (case.name + ending)).is_file() for ending in endings
            )
        except OSError:  # a name too long
            return False

    def discard(self, case: Case) -> None:
        """Remove what an older run wrote of a case: it would look as if the case were done."""
        for path in self.paths(case):
            with contextlib.suppress(OSError):  # such as a name too long
                if path.parent == self.folder:
                    path.unlink(missing_ok=True)
        for table in self._tables:
            table.forget(case.name)

    def paths(self, case: Case) -> list[Path]:
        """Return every file that may be written for a case."""
        return [self.folder / (case.name + ending) for ending in (ENDING, ".dcm", ".png", ".npz", ".pkl")]

    def start(self, whole_folder: bool, mark: str = "", repeated: Sequence[Case] | None = None) -> None:
        """Write what belongs to the folder: labels, colours, and the model's plans and data set, as nnU-Net does.

        Args:
            whole_folder: nobody else writes there now, so that what a killed run left can be removed.
            mark: of the models, see `models_mark`; "" where nothing is known of them.
            repeated: cases that are predicted again, so that what other models left of them can be removed; None to
                keep older label maps.

        Raises:
            ValueError: the folder belongs to other labels, holds label maps of other models that are to stay, or has a
                name that is not UTF-8.
            OSError: it cannot be written to.
        """
        if (name := in_utf8(str(self.folder))) != str(self.folder):
            raise ValueError(f"{name} is not UTF-8: choose another output folder")
        path = self.folder / "dataset.json"
        if path.exists() and path.read_text(encoding="utf-8") != json.dumps(self.model.dataset, indent=4):
            raise ValueError(f"{path} is of another data set or model: choose another output folder")
        self._part_from_other_models(mark, repeated)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"{self.folder} cannot be made ({error.strerror}): choose another output folder") from error
        if whole_folder:
            remove_leftovers(self.folder)
            for table in self._tables:
                table.take_over_parts()
            for failed in self.folder.glob("failed_part*of*.csv"):
                failed.unlink()
        write_label_tables(self.folder, self.labels)
        for name, content in (("dataset.json", self.model.dataset), ("plans.json", self.model.plans.plans)):
            with atomic_path(self.folder / name) as temporary:
                temporary.write_text(json.dumps(content, indent=4), encoding="utf-8")
        if mark:
            with atomic_path(self.folder / MARK_FILE) as temporary:
                temporary.write_text(mark, encoding="utf-8")

    def _part_from_other_models(self, mark: str, repeated: Sequence[Case] | None) -> None:
        path = self.folder / MARK_FILE
        if not mark or not path.is_file() or path.read_text(encoding="utf-8") == mark:
            return
        if repeated is None:
            raise ValueError(
                f"{self.folder} holds label maps of another model, other folds of it or other options, such as --fast: "
                "choose another output folder, or predict all cases again without --resume and --part"
            )
        names = {case.name for case in repeated}
        masks = {mask.name.removesuffix(ENDING) for mask in self.folder.glob(f"[!.]*{ENDING}")}
        if others := sorted(masks - names):
            raise ValueError(
                f"{self.folder} holds label maps of another model or other options for cases that are not in the "
                f"input, such as {others[0]}: choose another output folder"
            )
        if masks:
            logger.warning(
                "removing %d label map(s) of another model or other options from %s", len(masks), self.folder
            )
        for case in repeated:
            self.discard(case)

    @contextlib.contextmanager
    def started(self, case: Case) -> Iterator[None]:
        """Leave a mark that a case is being predicted, for the run that follows one that is killed meanwhile."""
        self._started(case).touch()
        try:
            yield
        finally:
            self._started(case).unlink(missing_ok=True)

    def was_interrupted(self, case: Case) -> bool:
        """Whether an earlier run ended while it predicted this case."""
        return self._started(case).exists()

    def _started(self, case: Case) -> Path:
        return self.folder / f".started-{hashlib.sha256(os.fsencode(case.name)).hexdigest()[:16]}"

    def write(self, case: Case, channels: list[sitk.Image], segmentation: Segmentation) -> None:
        """Write what is wanted of a case.

        Args:
            case: its name and files.
            channels: its images.
            segmentation: its label map, with probabilities where they are wanted.

        Raises:
            ExtraFailed: the label map is written, something beside it could not be.
        """
        mask = segmentation.mask
        array = sitk.GetArrayViewFromImage(mask)
        image = sitk.GetArrayViewFromImage(channels[0])
        extras: dict[str, tuple[Path, Callable[[], None]]] = {}
        if self.dicom_seg and case.is_dicom:
            target = self.folder / f"{case.name}.dcm"
            extras["DICOM-SEG"] = (
                target,
                lambda: write_dicom_seg(mask, case.channels[0], self.labels, target, self.regions),
            )
        if (probabilities := segmentation.probabilities) is not None:
            properties = reader_properties(self.model.plans.image_reader_writer_class, channels[0])
            extras["probabilities"] = (
                self.folder / f"{case.name}.npz",
                lambda: write_probabilities(self.folder / case.name, probabilities, properties),
            )
        if (preview := self.preview) is not None:
            picture = self.folder / f"{case.name}.png"
            extras["preview"] = (
                picture,
                lambda: preview(channels[0], {"prediction": mask}, picture, self.labels),
            )
        errors = {}
        for name, (path, write) in extras.items():
            try:
                write()
            except Exception as error:  # the label map is what was asked for first
                with contextlib.suppress(OSError):
                    path.unlink()  # an older run's would belong to another label map
                errors[name] = error
        flags: Flags = {}
        if segmentation.measures is not None:
            flags = check_case(segmentation.measures, self.labels, self.statistics)
            self.quality.replace(case.name, self.labels, segmentation.measures, flags)
        self.volumes.replace(case.name, organ_volumes(array, image, mask.GetSpacing()[::-1], self.regions), flags)
        if notes := dict.fromkeys([note for channel in channels for note in notes_of(channel)] + [*segmentation.notes]):
            self.notes.replace_rows(case.name, [(note,) for note in notes])
        else:
            self.notes.remove(case.name)
        assumed = any(ASSUMED in note for channel in channels for note in notes_of(channel))
        self.inputs.note(case, self.assumed_orientation if assumed else None)
        for table in self._tables:
            table.forget_elsewhere(case.name)
        write_mask(mask, self.mask_path(case))
        if errors:
            missing = "; ".join(f"no {name}: {error or type(error).__name__}" for name, error in errors.items())
            raise ExtraFailed(f"the label map is written, but {missing}")
