import csv
import json
import os
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from tests.inference.small_model import DATASET, REGIONS, write_model
from tests.inference.test_folder import write_ct
from unetr_nnunet.images.cases import Case, find_cases
from unetr_nnunet.images.grid import Grid, place
from unetr_nnunet.images.read import read_case
from unetr_nnunet.inference.model import load_model
from unetr_nnunet.inference.outputs import ExtraFailed, Outputs
from unetr_nnunet.inference.predictor import Predictor
from unetr_nnunet.inference.quality import CaseMeasures
from unetr_nnunet.inference.volumes_table import VolumesTable
from unetr_nnunet.nnunet.label_learning import learn
from unetr_nnunet.nnunet.organ_measures import OrganMeasures


@pytest.fixture
def model(tmp_path):
    return load_model(write_model(tmp_path / "model", mirror_axes=None), None)


@pytest.fixture
def case(tmp_path):
    write_ct(tmp_path / "ct.nii.gz")
    (found,), _ = find_cases(tmp_path / "ct.nii.gz", 1, "CT")
    return found


def write(outputs, case):
    outputs.start(whole_folder=True)
    images = read_case(case)
    probabilities_in = "RAS" if outputs.save_probabilities else None
    outputs.write(case, images, Predictor([outputs.model]).segment(images, None, probabilities_in))


def test_files_of_a_case_and_of_the_folder(model, case, tmp_path):
    drawn = []

    def preview(ct, label_maps, picture, labels):
        drawn.append((ct.GetSize(), list(label_maps), picture, labels))

    folder = tmp_path / "out"
    write(Outputs(folder, model, VolumesTable(folder / "volumes.csv"), preview=preview), case)
    names = {"ct.nii.gz", "volumes.csv", "quality.csv", "dataset.json", "plans.json"}
    names |= {"labels_itksnap.txt", "labels_slicer.ctbl", ".inputs.csv"}
    assert {path.name for path in folder.iterdir()} == names
    assert json.loads((folder / "dataset.json").read_text()) == DATASET
    mask = sitk.ReadImage(str(folder / "ct.nii.gz"))
    labels = {name: label for name, label in DATASET["labels"].items() if label}
    assert drawn == [((40, 40, 20), ["prediction"], folder / "ct.png", labels)]
    rows = [line.split(",") for line in (folder / "volumes.csv").read_text().splitlines()[1:]]
    voxel_ml = 1.5 * 1.5 * 3 / 1000
    for (_, organ, ml, mean, *_), (name, label) in zip(rows, labels.items(), strict=True):
        inside = sitk.GetArrayFromImage(mask) == label
        assert organ == name
        assert float(ml) == pytest.approx(inside.sum() * voxel_ml, abs=1e-3)
        image = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "ct.nii.gz")))
        assert (mean == "") == (not inside.any())
        if mean:
            assert float(mean) == pytest.approx(image[inside].mean(), abs=0.01)


def test_flags_stand_in_both_tables_while_the_case_is_there(model, case, tmp_path):
    folder = tmp_path / "out"
    labels = [name for name, label in DATASET["labels"].items() if label]
    organ = OrganMeasures(100, 50, 1, None, (20,) * 6)
    statistics = learn({str(number): dict.fromkeys([*labels, "liver"], organ) for number in range(10)})
    outputs = Outputs(folder, model, VolumesTable(folder / "volumes_part1of2.csv"), statistics=statistics)
    outputs.start(whole_folder=True)
    images = read_case(case)
    few = CaseMeasures({labels[0]: replace(organ, volume_ml=1), labels[1]: organ}, {labels[0]: 0.9})
    outputs.write(case, images, replace(Predictor([model]).segment(images), measures=few))
    flags = ["volume 1 ml, training 100 ml", "", "empty, but there in 10 of 10 training cases"]
    for name in ("volumes", "quality"):
        rows = list(csv.DictReader((folder / f"{name}_part1of2.csv").read_text().splitlines()))
        assert [row["organ"] for row in rows] == labels
        assert [row["flags"] for row in rows] == flags
    outputs.discard(case)
    assert len((folder / "quality_part1of2.csv").read_text().splitlines()) == 1


def test_notes_on_how_an_image_was_read_have_a_table_while_there_are_any(model, case, tmp_path):
    folder = tmp_path / "out"
    outputs = Outputs(folder, model, VolumesTable(folder / "volumes_part1of2.csv"))
    images = read_case(case)
    place(images[0], Grid.of(images[0]), ["read from a napkin"])
    outputs.start(whole_folder=True)
    predictor = Predictor([model])
    outputs.write(case, images, predictor.segment(images))
    assert (folder / "notes_part1of2.csv").read_text() == "case,note\nct,read from a napkin\n"
    outputs.write(case, read_case(case), predictor.segment(images))
    assert (folder / "notes_part1of2.csv").read_text() == "case,note\n"


def test_probabilities_agree_with_the_mask_which_is_the_same_without_them(model, case, tmp_path):
    folder = tmp_path / "out"
    write(Outputs(folder, model, VolumesTable(folder / "volumes.csv")), case)
    alone = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "ct.nii.gz")))
    write(Outputs(folder, model, VolumesTable(folder / "volumes.csv"), save_probabilities=True), case)
    probabilities = np.load(folder / "ct.npz")["probabilities"]
    assert probabilities.dtype == np.float16
    mask = sitk.ReadImage(str(folder / "ct.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), alone)
    in_ras = sitk.GetArrayFromImage(sitk.DICOMOrient(mask, "RAS"))  # the model's reader
    clear = np.diff(np.sort(probabilities.astype(float), axis=0)[-2:], axis=0)[0] > 2e-3  # float16 rounds
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(probabilities.argmax(0)[clear], in_ras[clear])


def test_volumes_of_regions_are_of_all_their_voxels(case, tmp_path):
    model = load_model(write_model(tmp_path / "regions", dataset=DATASET | REGIONS, mirror_axes=None), None)
    folder = tmp_path / "out"
    write(Outputs(folder, model, VolumesTable(folder / "volumes.csv")), case)
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "ct.nii.gz")))
    whole, core = (line.split(",") for line in (folder / "volumes.csv").read_text().splitlines()[1:])
    assert float(whole[2]) == pytest.approx((mask > 0).sum() * 1.5 * 1.5 * 3 / 1000, abs=1e-3)
    assert float(core[2]) == pytest.approx((mask == 2).sum() * 1.5 * 1.5 * 3 / 1000, abs=1e-3)
    assert (mask == 1).any()
    assert (mask == 2).any()


def test_the_mask_is_written_last_and_whatever_else_fails(model, case, tmp_path):
    folder = tmp_path / "out"

    def preview(*_):
        assert not (folder / "ct.nii.gz").exists()
        raise OSError("disk full")

    with pytest.raises(ExtraFailed, match="the label map is written, but no preview: disk full"):
        write(Outputs(folder, model, VolumesTable(folder / "volumes.csv"), preview=preview), case)
    assert (folder / "ct.nii.gz").exists()


def test_a_name_that_leads_elsewhere(model, tmp_path):
    outputs = Outputs(tmp_path / "out", model, VolumesTable(tmp_path / "out" / "volumes.csv"))
    with pytest.raises(ValueError, match=r"\.\./ct is no name of a file: rename"):
        outputs.refuse_name(Case("../ct", ((tmp_path / "ct.nii.gz",),), False))


def test_a_folder_that_is_not_utf8(model, tmp_path):
    folder = tmp_path / os.fsdecode(b"\xfc")
    with pytest.raises(ValueError, match=r"udcfc is not UTF-8: choose another output folder"):
        Outputs(folder, model, VolumesTable(folder / "volumes.csv")).start(whole_folder=True)
    assert not folder.exists()


def test_a_case_is_done_when_all_that_is_wanted_is_there(model, case, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    table = VolumesTable(folder / "volumes.csv")
    plain, seg, preview, arrays = (
        Outputs(folder, model, table, **wanted)
        for wanted in ({}, {"dicom_seg": True}, {"preview": print}, {"save_probabilities": True})
    )
    series = Case("ct", case.channels, is_dicom=True)
    assert not any(each.is_done(case) for each in (plain, seg, preview, arrays))
    (folder / "ct.nii.gz").touch()
    assert [each.is_done(case) for each in (plain, seg, preview, arrays)] == [True, True, False, False]
    assert not seg.is_done(series)
    for name in ("ct.dcm", "ct.png", "ct.npz"):
        (folder / name).touch()
    assert seg.is_done(series)
    assert preview.is_done(case)
    assert not arrays.is_done(case)
    (folder / "ct.pkl").touch()
    assert arrays.is_done(case)


def test_a_failed_extra_leaves_no_older_one(model, case, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "ct.png").touch()

    def preview(*_):
        raise RuntimeError("no font")

    outputs = Outputs(folder, model, VolumesTable(folder / "volumes.csv"), preview=preview)
    with pytest.raises(ExtraFailed):
        write(outputs, case)
    assert not (folder / "ct.png").exists()
    (folder / "ct.nii.gz").unlink()
    (folder / "ct.png").mkdir()
    with pytest.raises(ExtraFailed):
        write(outputs, case)
    assert (folder / "ct.nii.gz").exists()


def test_label_maps_of_other_models_are_not_mixed_with_these(model, case, tmp_path):
    folder = tmp_path / "out"
    outputs = Outputs(folder, model, VolumesTable(folder / "volumes.csv"))
    outputs.start(True, "one", repeated=None)
    (folder / "ct.nii.gz").touch()
    (folder / "other.nii.gz").touch()
    outputs.start(True, "one", repeated=None)
    assert (folder / "ct.nii.gz").exists()
    before = (folder / "plans.json").stat().st_mtime_ns
    with pytest.raises(ValueError, match=r"out holds label maps of another model, other folds of it or other options"):
        outputs.start(True, "two", repeated=None)
    assert (folder / "plans.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="for cases that are not in the input, such as other: choose another output"):
        outputs.start(True, "two", repeated=[case])
    (folder / "other.nii.gz").unlink()
    outputs.start(True, "two", repeated=[case])
    assert not (folder / "ct.nii.gz").exists()
    outputs.start(True, "two", repeated=None)


def test_leftovers_of_a_killed_run_go_unless_others_write_there(model, tmp_path):
    folder = tmp_path / "out"
    outputs = Outputs(folder, model, VolumesTable(folder / "volumes.csv"))
    for whole_folder in (False, True):
        folder.mkdir(exist_ok=True)
        (folder / ".tmp-x-ct.nii.gz").write_text("half")
        outputs.start(whole_folder)
        assert (folder / ".tmp-x-ct.nii.gz").exists() != whole_folder
