"""What all converters have in common, on the layout of each data set."""

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from tests.conftest import use_threads
from tests.dataset_conversion.conversions import conversion_of
from tests.dataset_conversion.other_trees import TREES
from unetr_nnunet.dataset_conversion.conversion import convert
from unetr_nnunet.dataset_conversion.sources import DATA_SETS
from unetr_nnunet.organs import ORGAN_NAMES


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "raw"


def settings(tree, raw, source=None, split=None, command=None, **changes):
    defaults = {"dataset_id": 51, "name": "Other", "link": "copy"}
    return conversion_of(command or tree.command, source or tree.folder, raw, split, **(defaults | changes))


def contents(folder):
    names = ("images", "labels", "dataset", "splits")
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and str(file.relative_to(folder)).startswith(names)
    }


def names(folder):
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def read(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


@pytest.fixture(scope="session")
def converted(written_trees, tmp_path_factory):
    """The tree and the report of each data set, converted with its own split."""
    root = tmp_path_factory.mktemp("raw")
    return {
        command: (tree, convert(settings(tree, root, dataset_id=number)))
        for number, (command, tree) in enumerate(written_trees.items(), start=51)
    }


@pytest.fixture(params=TREES)
def tree_and_report(request, converted):
    return converted[request.param]


def test_there_is_a_tree_for_each_data_set():
    assert {"btcv", "openkbp", *TREES} == set(DATA_SETS)
    assert len({data_set.dataset_id for data_set in DATA_SETS.values()}) == len(DATA_SETS)


def test_labels_become_those_of_btcv_on_the_images_grid(tree_and_report):
    tree, report = tree_and_report
    for part, cases in (("Tr", tree.training + tree.validation), ("Ts", tree.test)):
        assert names(report.folder / f"images{part}") == sorted(f"{case}_0000.nii.gz" for case in cases)
        labelled = cases if part == "Tr" or tree.test_is_labelled else []
        assert names(report.folder / f"labels{part}") == sorted(f"{case}.nii.gz" for case in labelled)
        for case in labelled:
            assert np.array_equal(read(report.folder / f"labels{part}" / f"{case}.nii.gz"), tree.btcv_voxels(case))
        image = report.folder / f"images{part}" / f"{cases[0]}_0000.nii.gz"
        assert image.read_bytes() == tree.image_path(cases[0]).read_bytes()
    assert report.rewritten == {}
    assert report.absent_organs == {}


def test_dataset_json_names_the_13_organs_and_those_that_are_absent(tree_and_report):
    tree, report = tree_and_report
    dataset = json.loads((report.folder / "dataset.json").read_text())
    assert dataset["labels"] == {"background": 0} | {name: organ for organ, name in ORGAN_NAMES.items()}
    assert dataset.get("absent_labels", []) == tree.absent == report.undrawn_organs
    assert dataset["channel_names"] == {"0": "CT"}
    assert dataset["numTraining"] == len(tree.training + tree.validation)


def test_own_split_is_one_fixed_fold(tree_and_report):
    tree, report = tree_and_report
    path = report.folder / "splits_final.json"
    expected = [{"train": sorted(tree.training), "val": sorted(tree.validation)}]
    assert (json.loads(path.read_text()) if path.exists() else None) == (expected if tree.validation else None)
    assert report.test == tree.test


def test_cv5_leaves_the_folds_to_nnunet_and_holds_the_test_cases_out(written_tree, raw):
    report = convert(settings(written_tree, raw, split="cv5", dry_run=True))
    assert report.fold_count == 0
    assert set(report.training).isdisjoint(written_tree.test)
    assert len(report.training) == len(written_tree.training + written_tree.validation)


def test_a_zip_and_any_level_of_the_folder_give_the_same_files(tree_and_report, tmp_path):
    tree, report = tree_and_report
    expected = contents(report.folder)
    for number, source in enumerate((tree.zip(), tree.root)):  # the latter holds the archive and the folder
        other = settings(tree, tmp_path / str(number), source=source)
        assert contents(convert(replace(other, link="auto")).folder) == expected


def test_nnunet_accepts_the_data_sets(converted, conversion, monkeypatch, capsys):
    from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

    use_threads(monkeypatch)
    folders = [str(report.folder) for _, report in converted.values()] + [str(convert(conversion).folder)]
    for folder in folders:
        verify_dataset_integrity(folder, 1)
    printed = capsys.readouterr().out
    assert printed.count("verify_dataset_integrity Done") == len(TREES) + 1
    assert "mismatch" not in printed.lower()
