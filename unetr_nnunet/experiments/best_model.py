"""Choose the best model or ensemble by cross-validation, as nnU-Net's ``find_best_configuration`` and beyond it.

nnU-Net compares single models and pairs by the mean Dice of the cross-validation, and then decides on post-processing.
The same is done here with its own functions, from float16 probabilities that lie outside its folders; an organ that no
case has is left out of the mean, which else is NaN. Then models are added one at a time, as long as that raises the
mean over organs: greedy ensemble selection (Caruana et al., "Ensemble Selection from Libraries of Models", ICML 2004).
The test set has no say.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from unetr_nnunet.atomic import write_json
from unetr_nnunet.evaluation.statistics import mean
from unetr_nnunet.experiments.study import Model, Study
from unetr_nnunet.nnunet.json_file import read_if_whole

LONGEST_NAME = 255
"""Bytes of a file name on common file systems."""
Members = tuple[str, ...]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BestModel:
    """The model or ensemble that a study has chosen.

    Attributes:
        members: identifiers of the models, averaged where there are several.
        folds: folds of every member.
        dice: mean over organs in the cross-validation, before post-processing.
        scores: the same of everything that was tried.
        nnunet_choice: what nnU-Net's rule takes: the best single model or pair.
        postprocessing: (function of nnU-Net's, its arguments), in order.
        validation: folder of the masks of the cross-validation.
    """

    members: Members
    folds: tuple[int, ...]
    dice: float
    scores: Mapping[Members, float]
    nnunet_choice: Members
    postprocessing: tuple[tuple[str, dict[str, Any]], ...]
    validation: Path


def rank_by_validation(study: Study, results: Path) -> list[tuple[str, float]]:
    """Return the models with their mean Dice over organs in the cross-validation, best first; ties keep their order.

    Args:
        study: the study.
        results: the data set's folder in ``nnUNet_results``.

    Raises:
        ValueError: a fold has not been validated; the message has the commands that do it.
    """
    missing = [
        f"nnUNetv2_train {study.dataset} {model.configuration} {fold} -tr {model.trainer} -p {model.plans} --c"
        for model in study.models
        for fold in study.folds
        if read_if_whole(_summary(results, model, fold)) is None
    ]
    if missing:
        raise ValueError(f"{len(missing)} validation(s) missing; these commands make them:\n" + "\n".join(missing))
    scores = {}
    for model in study.models:
        cases: list[Mapping[str, Any]] = []
        for fold in study.folds:
            cases += read_if_whole(_summary(results, model, fold))["metric_per_case"]
        scores[model.identifier] = _mean_dice(case["metrics"] for case in cases)
    return sorted(scores.items(), key=lambda item: -item[1])


def _summary(results: Path, model: Model, fold: int) -> Path:
    return results / model.identifier / f"fold_{fold}" / "validation" / "summary.json"


def _mean_dice(cases: Iterable[Mapping[Any, Mapping[str, float]]]) -> float:
    """Average Dice over cases, then over the organs that some case has."""
    by_label: dict[Any, list[float]] = {}
    for metrics in cases:
        for label, figures in metrics.items():
            by_label.setdefault(label, []).append(figures["Dice"])
    return mean(mean(values) for values in by_label.values())


def choose_best(study: Study, folder: Path, results: Path, preprocessed: Path, workers: int) -> BestModel:
    """Try the candidates alone, in pairs and in larger ensembles; keep the best, and decide on its post-processing.

    Args:
        study: the study.
        folder: the study's, with ``candidates.json`` and the probabilities.
        results: the data set's folder in ``nnUNet_results``; receives nnU-Net's ``ensembles`` and
            ``crossval_results_folds_*``.
        preprocessed: the data set's folder in ``nnUNet_preprocessed``.
        workers: cases at once.
    """
    truth = preprocessed / "gt_segmentations"
    singles = dict(rank_by_validation(study, results))
    candidates = json.loads((folder / "candidates.json").read_text(encoding="utf-8"))
    order = [model.identifier for model in study.models]
    scores: dict[Members, float] = {(identifier,): singles[identifier] for identifier in order}
    trial = _Trials(study, folder, results, truth, workers)
    for pair in combinations(sorted(candidates, key=order.index), 2):
        scores[pair] = trial.dice(pair)
    best = nnunet_choice = max(scores, key=lambda members: scores[members])  # the first of equals: single before pair
    while larger := [tuple(sorted((*best, other), key=order.index)) for other in candidates if other not in best]:
        for members in larger:
            if members not in scores:
                scores[members] = trial.dice(members)
        step = max(larger, key=lambda members: scores[members])
        if scores[step] <= scores[best]:
            break
        best = step
    for members, dice in sorted(scores.items(), key=lambda item: -item[1]):
        _log.info("%.4f  %s", dice, " + ".join(members))
    _log.info("nnU-Net's rule (single models and pairs) takes %s", " + ".join(nnunet_choice))
    validation = _merged(best, study.folds, results) if len(best) == 1 else trial.masks(best)
    rules = _postprocessing(validation, results / best[0], truth, workers)
    return BestModel(best, study.folds, scores[best], scores, nnunet_choice, rules, validation)


def ensemble_name(members: Members, folds: Sequence[int]) -> str:
    """Return nnU-Net's name of an ensemble; where it would be too long for a file name, a shorter one."""
    which = "_".join(map(str, folds))
    name = "___".join(["ensemble", *members, which])
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(" ".join(members).encode()).hexdigest()[:8]
    return f"ensemble___{len(members)}_models_{digest}___{which}"


class _Trials:
    """Average and score ensembles of the cross-validation, each only once, also over several runs."""

    def __init__(self, study: Study, folder: Path, results: Path, truth: Path, workers: int) -> None:
        self.study, self.folder, self.results, self.truth, self.workers = study, folder, results, truth, workers

    def masks(self, members: Members) -> Path:
        return self.results / "ensembles" / ensemble_name(members, self.study.folds)

    def dice(self, members: Members) -> float:
        from nnunetv2.ensembling.ensemble import merge_files
        from nnunetv2.evaluation.evaluate_predictions import compute_metrics

        output = self.masks(members)
        noted = self.folder / "ensembles" / f"{output.name[-LONGEST_NAME + 5 :]}.json"
        before = read_if_whole(noted)
        if before is not None and output.is_dir() and noted.stat().st_mtime > self._validated(members):
            return float(before["dice"])
        reader, label_manager, dataset = _label_handling(self.results / members[0])
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir(parents=True)
        for name in ("dataset.json", "plans.json"):
            shutil.copy(self.results / members[0] / name, output / name)

        def score(files: list[Path]) -> Mapping[Any, Mapping[str, float]]:
            stem, ending = output / files[0].stem, dataset["file_ending"]
            merge_files([str(path) for path in files], str(stem), ending, reader, label_manager)
            metrics = compute_metrics(
                str(self.truth / f"{stem.name}{ending}"),
                f"{stem}{ending}",
                reader,
                _labels(label_manager),
                label_manager.ignore_label,
            )
            return metrics["metrics"]

        with ThreadPoolExecutor(self.workers) as pool:
            dice = _mean_dice(pool.map(score, self._probabilities(members)))
        write_json({"members": members, "dice": dice}, noted)
        return dice

    def _validated(self, members: Members) -> float:
        """Return when the last of the members' validations has ended."""
        models = [self.study.model(member) for member in members]
        files = [_summary(self.results, model, fold) for model in models for fold in self.study.folds]
        return max(path.stat().st_mtime for path in files)

    def _probabilities(self, members: Members) -> list[list[Path]]:
        """Return the files of each case, one for each member.

        Raises:
            ValueError: a model has not predicted what another has.
        """
        by_case: dict[str, list[Path]] = {}
        for member in members:
            for fold in self.study.folds:
                for path in sorted((self.folder / "probabilities" / member / f"fold_{fold}").glob("*.npz")):
                    by_case.setdefault(path.name, []).append(path)
        for case, files in by_case.items():
            if len(files) != len(members):
                raise ValueError(f"{case}: probabilities of {len(files)} of {len(members)} models: run again")
        return list(by_case.values())


def _label_handling(model: Path) -> tuple[Any, Any, dict[str, Any]]:
    """Return nnU-Net's image reader and label manager of a model, and its ``dataset.json``."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    dataset = json.loads((model / "dataset.json").read_text(encoding="utf-8"))
    plans = PlansManager(str(model / "plans.json"))
    return plans.image_reader_writer_class(), plans.get_label_manager(dataset), dataset


def _labels(label_manager: Any) -> Any:
    return label_manager.foreground_regions if label_manager.has_regions else label_manager.foreground_labels


def _merged(best: Members, folds: tuple[int, ...], results: Path) -> Path:
    """Gather the validation of all folds of one model, as nnU-Net does, and return the folder."""
    from nnunetv2.evaluation.accumulate_cv_results import accumulate_cv_results

    model = results / best[0]
    output = model / f"crossval_results_folds_{'_'.join(map(str, folds))}"
    accumulate_cv_results(str(model), str(output), folds, 1, overwrite=True)
    return output


def _postprocessing(validation: Path, model: Path, truth: Path, workers: int) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Let nnU-Net decide which components to remove; its masks and its two files stay in ``validation``."""
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
    from nnunetv2.postprocessing.remove_connected_components import determine_postprocessing

    reader, label_manager, dataset = _label_handling(model)
    if read_if_whole(validation / "summary.json") is None:
        compute_metrics_on_folder(
            str(truth),
            str(validation),
            str(validation / "summary.json"),
            reader,
            dataset["file_ending"],
            _labels(label_manager),
            label_manager.ignore_label,
            workers,
        )
    functions, arguments = determine_postprocessing(
        str(validation),
        str(truth),
        plans_file_or_dict=str(model / "plans.json"),
        dataset_json_file_or_dict=str(model / "dataset.json"),
        num_processes=workers,
        keep_postprocessed_files=True,
    )
    return tuple((function.__name__, keywords) for function, keywords in zip(functions, arguments, strict=True))
