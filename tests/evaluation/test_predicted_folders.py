"""What `tests/evaluation/test_model_results.py` does not reach through the front door."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.evaluation.nnunet_tree import DATASET, truth, write_labels, write_mask, write_tree
from unetr_nnunet.evaluation.folder import evaluate_folder
from unetr_nnunet.evaluation.predicted_folders import evaluate_folders
from unetr_nnunet.evaluation.protocols import DEFAULT_PROTOCOL, PROTOCOLS


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    write_tree(tmp_path)
    return tmp_path / "nnUNet_preprocessed" / DATASET / "gt_segmentations"


def test_one_folder_is_what_evaluating_it_gives(tmp_path: Path, labels: Path) -> None:
    folder = tmp_path / "nnUNet_results" / DATASET
    source = next(folder.glob("*/fold_0/validation"))
    write_labels(source)
    evaluation, fold_of, notes = evaluate_folders(source, {"": source}, labels, DEFAULT_PROTOCOL)
    expected = evaluate_folder(source, labels)
    assert repr(replace(evaluation, without_label=[])) == repr(replace(expected, without_label=[])), "NaN is like NaN"
    assert (fold_of, notes) == ({}, [])


def test_labels_of_other_cases(tmp_path: Path, labels: Path) -> None:
    source = next((tmp_path / "nnUNet_results" / DATASET).glob("*/fold_0/validation"))
    write_mask(tmp_path / "others" / "somebody.nii.gz", truth(0))
    with pytest.raises(ValueError, match="no case is in both folders"):
        evaluate_folders(source, {"": source}, tmp_path / "others", DEFAULT_PROTOCOL)


def test_a_protocol_that_the_data_set_does_not_fit(tmp_path: Path, labels: Path) -> None:
    model = next((tmp_path / "nnUNet_results" / DATASET).iterdir())
    sources = {"0": model / "fold_0" / "validation"}
    with pytest.raises(ValueError, match="protocol 'synapse-8' scores aorta"):
        evaluate_folders(model, sources, None, PROTOCOLS["synapse-8"])
