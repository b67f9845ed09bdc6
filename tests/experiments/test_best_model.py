import errno
import json
import logging
import math
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nnunetv2.ensembling.ensemble import merge_files
from nnunetv2.evaluation import accumulate_cv_results as cv_module
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO

from tests.conftest import use_threads
from tests.inference.small_model import plans
from unetr_nnunet.experiments import best_model
from unetr_nnunet.experiments.best_model import choose_best, ensemble_name, rank_by_validation
from unetr_nnunet.experiments.study import Model, Study
from unetr_nnunet.inference.model_set import LARGEST_COMPONENT

A, B, C = Model("A"), Model("B"), Model("C")
STUDY = Study(999, (A, B, C), (0, 1))
NAN = math.nan


def write_summary(results: Path, model: Model, fold: int, cases: list[Mapping[str, float]]) -> None:
    path = results / model.identifier / f"fold_{fold}" / "validation" / "summary.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = [{"metrics": {organ: {"Dice": dice} for organ, dice in case.items()}} for case in cases]
    path.write_text(json.dumps({"metric_per_case": content}))


# ---- the order of the models ----


def test_means_over_cases_then_organs_with_one_organ_absent(tmp_path: Path) -> None:
    for model, first in ((A, 0.2), (B, 0.9), (C, 0.2)):
        write_summary(tmp_path, model, 0, [{"1": first, "2": 0.5, "3": NAN}, {"1": 0.4, "2": NAN, "3": NAN}])
        write_summary(tmp_path, model, 1, [{"1": 0.6, "2": 0.7, "3": NAN}])
    ranked = rank_by_validation(STUDY, tmp_path)
    assert [name for name, _ in ranked] == [B.identifier, A.identifier, C.identifier], "equals keep their order"
    # organ 1: (0.9 + 0.4 + 0.6) / 3; organ 2: (0.5 + 0.7) / 2; no case has organ 3
    assert [dice for _, dice in ranked] == pytest.approx([(1.9 / 3 + 0.6) / 2, (0.4 + 0.6) / 2, (0.4 + 0.6) / 2])


def test_missing_validations_are_told_with_their_commands(tmp_path: Path) -> None:
    study = Study(999, (A, Model("B", "Own", "2d")), (0, 1))
    write_summary(tmp_path, A, 0, [{"1": 0.5}])
    write_summary(tmp_path, study.models[1], 1, [{"1": 0.5}])
    torn = tmp_path / A.identifier / "fold_1" / "validation" / "summary.json"
    torn.parent.mkdir(parents=True)
    torn.write_text('{"metric_per_case": [')
    with pytest.raises(ValueError, match=r"^2 validation\(s\) missing") as caught:
        rank_by_validation(study, tmp_path)
    assert str(caught.value).splitlines()[1:] == [
        "nnUNetv2_train 999 3d_fullres 1 -tr A -p nnUNetPlans --c",
        "nnUNetv2_train 999 2d 0 -tr B -p Own --c",
    ]


def test_names_of_ensembles() -> None:
    assert ensemble_name(("A__P__c", "B__P__c"), (0, 1)) == "ensemble___A__P__c___B__P__c___0_1"  # nnU-Net's own
    many = tuple(f"nnUNetTrainerUNETR_Modified_Tiny_seed{seed}__nnUNetPlans__3d_fullres" for seed in range(5))
    short = ensemble_name(many, (0, 1, 2, 3, 4))
    assert len(short) <= 255
    assert short.startswith("ensemble___5_models_")
    assert short.endswith("___0_1_2_3_4")
    assert short != ensemble_name(many[::-1], (0, 1, 2, 3, 4))


# ---- ensembles of hand-made probabilities ----

SHAPE = (1, 5, 16)
DATASET = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz"}
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
# Voxels in groups of 16: the organ's probability by each model. Only the first three are organ. A with B finds all
# three, with an island in the last group; C drags others below a half.
TRUTH = (1, 1, 1, 0, 0)
ORGAN = {A: (0.9, 0.9, 0.4, 0.0, 0.9), B: (0.4, 0.9, 0.9, 0.0, 0.9), C: (0.0, 0.55, 0.55, 0.0, 0.0)}


class Ensembles:
    """The folders of a study whose models have been trained, with what they predicted.

    A second organ, of which all models are sure, is in the first fold's case only.
    """

    def __init__(self, root: Path, second_organ: bool = False) -> None:
        labels = {**DATASET["labels"], **({"other": 2} if second_organ else {})}
        self.folder, self.results = root / "study", root / "results" / "Dataset999_Toy"
        self.preprocessed = root / "preprocessed" / "Dataset999_Toy"
        truth = self.preprocessed / "gt_segmentations"
        truth.mkdir(parents=True)
        for case in ("case.0", "case.1"):
            second = 2 if second_organ and case == "case.0" else 0
            write_mask(truth / f"{case}.nii.gz", (*TRUTH[:3], second, TRUTH[4]))
        for model, organ in ORGAN.items():
            folder = self.results / model.identifier
            for fold, case in enumerate(("case.0", "case.1")):
                validation = folder / f"fold_{fold}" / "validation"
                validation.mkdir(parents=True)
                second = second_organ and fold == 0
                mask = [int(value > 0.5) for value in organ]
                write_mask(validation / f"{case}.nii.gz", (*mask[:3], 2 if second else mask[3], mask[4]))
                compute_metrics_on_folder(
                    str(truth), str(validation), str(validation / "summary.json"), NibabelIO(), ".nii.gz",
                    sorted(labels.values())[1:],
                    num_processes=1, chill=True,
                )  # fmt: skip
                self._write_probabilities(model, fold, case, organ, len(labels), second)
            (folder / "plans.json").write_text(json.dumps(plans(reader="NibabelIO")))
            (folder / "dataset.json").write_text(json.dumps(DATASET | {"labels": labels}))
        (self.folder / "candidates.json").write_text(json.dumps([model.identifier for model in ORGAN]))

    def _write_probabilities(
        self, model: Model, fold: int, case: str, organ: tuple[float, ...], labels: int, second: bool
    ) -> None:
        path = self.folder / "probabilities" / model.identifier / f"fold_{fold}" / f"{case}.npz"
        path.parent.mkdir(parents=True)
        one = np.repeat(np.array(organ), 16).reshape(SHAPE)
        other = np.repeat(np.array((0.0, 0.0, 0.0, float(second), 0.0)), 16).reshape(SHAPE)
        probabilities = np.stack([1 - one - other, one, other])[:labels].astype(np.float16)
        np.savez_compressed(path, probabilities=probabilities)
        with path.with_suffix(".pkl").open("wb") as stream:
            pickle.dump({"nibabel_stuff": {"original_affine": AFFINE}, "spacing": [1.0, 1.0, 1.0]}, stream)

    def choose(self, study: Study = STUDY) -> best_model.BestModel:
        return choose_best(study, self.folder, self.results, self.preprocessed, 1)


def write_mask(path: Path, groups: Any) -> None:
    mask = np.repeat(np.array(groups, np.uint8), 16).reshape(SHAPE)
    nibabel.save(nibabel.Nifti1Image(mask.transpose(2, 1, 0), AFFINE), path)


def read_mask(path: Path) -> list[int]:
    mask = np.asarray(nibabel.load(path).dataobj).transpose(2, 1, 0)
    return [int(value) for value in mask.ravel()[::16]]


@pytest.fixture
def threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_threads(monkeypatch)
    monkeypatch.setattr(cv_module, "nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setattr(cv_module, "nnUNet_preprocessed", str(tmp_path / "preprocessed"))


@pytest.fixture
def ensembles(tmp_path: Path, threads: None) -> Ensembles:
    return Ensembles(tmp_path)


def test_the_best_pair_is_found(ensembles: Ensembles, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    best = ensembles.choose()
    a, b, c = (model.identifier for model in (A, B, C))
    assert best.members == best.nnunet_choice == (a, b)
    assert best.scores == pytest.approx(
        {  # 2 TP / (2 TP + FP + FN), in groups
            (a,): 4 / (4 + 1 + 1),
            (b,): 4 / (4 + 1 + 1),
            (c,): 4 / (4 + 0 + 1),
            (a, b): 6 / (6 + 1 + 0),
            (a, c): 2 / (2 + 0 + 2),
            (b, c): 4 / (4 + 0 + 1),
            (a, b, c): 4 / (4 + 1 + 1),
        }
    )
    assert best.dice == best.scores[a, b]
    assert best.validation == ensembles.results / "ensembles" / ensemble_name((a, b), (0, 1))
    for case in ("case.0", "case.1"):
        assert read_mask(best.validation / f"{case}.nii.gz") == [1, 1, 1, 0, 1]
    assert [record.getMessage() for record in caplog.records][:2] == [f"0.8571  {a} + {b}", f"0.8000  {c}"]
    assert f"nnU-Net's rule (single models and pairs) takes {a} + {b}" in caplog.text


def test_nnunet_decides_to_remove_the_island(ensembles: Ensembles) -> None:
    best = ensembles.choose()
    assert best.postprocessing[0] == (LARGEST_COMPONENT, {"labels_or_regions": [1]})
    assert read_mask(best.validation / "postprocessed" / "case.0.nii.gz") == list(TRUTH)
    assert (best.validation / "postprocessing.pkl").is_file()


def test_what_has_been_scored_is_not_averaged_again(ensembles: Ensembles, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ensembles.choose()
    monkeypatch.setattr("nnunetv2.ensembling.ensemble.merge_files", None)
    assert ensembles.choose() == before


def test_one_candidate_is_taken_alone(ensembles: Ensembles) -> None:
    (ensembles.folder / "candidates.json").write_text(json.dumps([C.identifier]))
    best = ensembles.choose()
    assert best.members == (C.identifier,)
    assert len(best.scores) == 3
    assert best.validation == ensembles.results / C.identifier / "crossval_results_folds_0_1"
    assert {path.name for path in best.validation.glob("*.nii.gz")} == {"case.0.nii.gz", "case.1.nii.gz"}
    assert best.postprocessing == (), "nothing to gain"


def test_a_model_that_has_not_predicted_a_case(ensembles: Ensembles) -> None:
    (ensembles.folder / "probabilities" / B.identifier / "fold_1" / "case.1.npz").unlink()
    with pytest.raises(ValueError, match=r"case\.1\.npz: probabilities of 1 of 2 models: run again"):
        ensembles.choose()


@pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")  # nnU-Net's own, for the fold without it
def test_an_organ_that_one_fold_lacks_counts_where_it_is(tmp_path: Path, threads: None) -> None:
    first = Ensembles(tmp_path / "one").choose()
    both = Ensembles(tmp_path / "two", second_organ=True).choose()
    assert both.members == first.members
    assert both.scores == pytest.approx({members: (dice + 1) / 2 for members, dice in first.scores.items()})
    assert read_mask(both.validation / "case.0.nii.gz") == [1, 1, 1, 2, 1]
    assert read_mask(both.validation / "case.1.nii.gz") == [1, 1, 1, 0, 1]
    assert both.postprocessing[0] == (LARGEST_COMPONENT, {"labels_or_regions": [1, 2]})


def test_a_disk_that_is_full_while_ensembles_are_averaged(
    ensembles: Ensembles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Ensembles(tmp_path / "other").choose().scores
    written: list[str] = []

    def merge(files: list[str], stem: str, ending: str, *words: Any) -> None:
        written.append(stem)
        if len(written) == 2:
            Path(stem + ending).write_bytes(b"torn")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), stem + ending)
        merge_files(files, stem, ending, *words)

    monkeypatch.setattr("nnunetv2.ensembling.ensemble.merge_files", merge)
    with pytest.raises(OSError, match="No space left on device"):
        ensembles.choose()
    assert len(written) == 2
    monkeypatch.setattr("nnunetv2.ensembling.ensemble.merge_files", merge_files)
    assert ensembles.choose().scores == expected
