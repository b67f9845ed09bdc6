"""Measure the training labels once for a data set and configuration, for the comparison in prediction.

All folds share one file: measured are the cases that any fold of the split trains on. In a cross-validation these are
all cases, and the five folds are averaged in prediction; a split that holds cases back keeps them out of it. No weight
and no figure of a validation depends on the file.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from unetr_nnunet.atomic import atomic_path
from unetr_nnunet.nnunet.label_integers import annotated_integers
from unetr_nnunet.nnunet.label_learning import digest, learn
from unetr_nnunet.nnunet.label_statistics import FILE, TrainingStatistics, read_statistics, write_statistics
from unetr_nnunet.nnunet.organ_measures import OrganMeasures, axis_ends, ct_intensities, measure_organs
from unetr_nnunet.nnunet.splits import FILE_NAME as SPLITS_FILE
from unetr_nnunet.nnunet.splits import read_splits

MOST_CASES = 100
"""Of more training cases every so-manieth is measured."""


@dataclass(frozen=True)
class PreprocessedCases:
    """nnU-Net's preprocessed training cases of one configuration.

    Attributes:
        folder: the data set's folder in ``nnUNet_preprocessed``.
        identifier: name of the configuration's folder in it.
        names: of all cases.
        load: returns image (C, Z, Y, X), labels (1, Z, Y, X), labels of a stage before, and properties of a case.
        plans: content of the plans file.
        spacing_mm: of the configuration, two numbers for slices.
        scheme: normalisation of the first channel.
        dataset: content of ``dataset.json``.
        orientation: orientation code of all arrays; None where they differ.
    """

    folder: Path
    identifier: str
    names: Sequence[str]
    load: Callable[[str], tuple[Any, Any, Any, Mapping[str, Any]]]
    plans: Mapping[str, Any]
    spacing_mm: Sequence[float]
    scheme: str
    dataset: dict[str, Any]
    orientation: str | None

    @property
    def cache(self) -> Path:
        """The file that all trainings share; not beside the cases, where nnU-Net allows no other kind of file."""
        return self.folder / f"{Path(FILE).stem}_{self.identifier}.json"

    def training_cases(self) -> list[str]:
        """Return the cases to measure, at most `MOST_CASES`."""
        splits = self.folder / SPLITS_FILE
        names = sorted(self.names)
        if splits.is_file():
            trained = {name for split in read_splits(splits) for name in split.train}
            names = [name for name in names if name in trained]
        step = -(-len(names) // MOST_CASES) or 1
        return names[::step]

    def measure(self, name: str) -> dict[str, OrganMeasures]:
        """Measure the organs of a case."""
        image, labels, _, properties = self.load(name)
        transposition = self.plans["transpose_forward"]
        spacing_mm = list(map(float, self.spacing_mm))
        if len(spacing_mm) == 2:
            spacing_mm.insert(0, float(properties["spacing"][transposition[0]]))
        box, whole = properties["bbox_used_for_cropping"], properties["shape_before_cropping"]
        return measure_organs(
            np.asarray(labels[0]),
            annotated_integers(self.dataset),
            spacing_mm,
            axis_ends(self.orientation, transposition) if self.orientation else None,
            ct_intensities(np.asarray(image[0]), self.plans, self.scheme),
            tuple((start == 0, stop == length) for (start, stop), length in zip(box, whole, strict=True)),
        )

    def cached(self, names: Sequence[str]) -> TrainingStatistics | None:
        """Return what another training has learnt from the same cases; None where they have changed since."""
        if not self.cache.is_file():
            return None
        measured_at = self.cache.stat().st_mtime
        cases = self.folder / self.identifier
        if any((cases / f"{name}.pkl").stat().st_mtime > measured_at for name in names):
            return None
        try:
            statistics = read_statistics(self.cache)
        except ValueError:
            return None
        same = statistics is not None and statistics.names_digest == digest(names)
        return statistics if same else None


def measure_training_labels(trainer: nnUNetTrainer, orientation: str | None) -> str:
    """Leave in a model folder what predictions are compared with; no training fails for it.

    Args:
        trainer: whose training starts.
        orientation: see `PreprocessedCases`.

    Returns:
        A line for the log.
    """
    try:
        folder, configuration = trainer.preprocessed_dataset_folder, trainer.configuration_manager
        cases = PreprocessedCases(
            folder=Path(trainer.preprocessed_dataset_folder_base),
            identifier=configuration.data_identifier,
            names=trainer.dataset_class.get_identifiers(folder),
            load=trainer.dataset_class(folder).load_case,
            plans=trainer.plans_manager.plans,
            spacing_mm=configuration.spacing,
            scheme=configuration.normalization_schemes[0],
            dataset=trainer.dataset_json,
            orientation=orientation,
        )
        return write_training_statistics(cases, Path(trainer.output_folder_base))
    except Exception as error:
        return f"The training labels could not be measured: {error or type(error).__name__}"


def write_training_statistics(cases: PreprocessedCases, model: Path) -> str:
    """Write the file into a model folder, measuring the cases only where no other training has done so.

    Returns:
        A line for the log.
    """
    names = cases.training_cases()
    start = time.perf_counter()
    statistics = cases.cached(names)
    source = f"from {cases.cache}"
    if statistics is None:
        statistics = learn({name: cases.measure(name) for name in names})
        write_statistics(statistics, cases.cache)
        source = f"{time.perf_counter() - start:.1f} s"
    with atomic_path(model / FILE) as temporary:
        shutil.copyfile(cases.cache, temporary)
    return f"Measured the labels of {len(names)} training cases for {FILE} ({source})."
