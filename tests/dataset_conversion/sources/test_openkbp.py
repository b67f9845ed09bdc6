import json
import re
import shutil
import zipfile
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from tests.dataset_conversion.conversions import conversion_of, names, only_problem_of, problems_of, selected
from tests.dataset_conversion.openkbp_clone import (
    CORNER,
    FILES,
    MORE_FILES,
    PLACES,
    SPACING_MM,
    body,
    folder_of,
    write_patient,
)
from unetr_nnunet.dataset_conversion.conversion import convert
from unetr_nnunet.dataset_conversion.sources.openkbp import DATA_SET, with_organs

LABELS = {"background": 0, "brainstem": 1, "spinal_cord": 2, "right_parotid": 3, "left_parotid": 4, "mandible": 5}


@pytest.fixture(scope="module")
def _clone(tmp_path_factory):
    """Patients 1, 3, 201, 241 with every contour, 2 and 242 without some."""
    clone = tmp_path_factory.mktemp("download") / "open-kbp"
    for number in (1, 3, 201, 241):
        write_patient(clone, number)
    write_patient(clone, 2, lacking=("Mandible", "Larynx"))
    write_patient(clone, 242, lacking=("Larynx",))
    return clone


@pytest.fixture
def clone(_clone, tmp_path):
    """A clone to be damaged."""
    return shutil.copytree(_clone, tmp_path / "open-kbp")


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "raw"


@pytest.fixture
def conversion(clone, raw):
    return conversion_of("openkbp", clone, raw)


def with_data_set(conversion, *organs):
    return replace(conversion, data_set=with_organs(organs))


def test_the_official_split(conversion):
    report = convert(conversion)
    assert (report.training, report.test) == (["HN_001", "HN_003", "HN_201"], ["HN_241", "HN_242"])
    for part, cases in (("Tr", report.training), ("Ts", report.test)):
        assert names(report.folder / f"images{part}") == [f"{case}_0000.nii.gz" for case in cases]
        assert names(report.folder / f"labels{part}") == [f"{case}.nii.gz" for case in cases]
    splits = json.loads((report.folder / "splits_final.json").read_text())
    assert splits == [{"train": ["HN_001", "HN_003"], "val": ["HN_201"]}]
    dataset = json.loads((report.folder / "dataset.json").read_text())
    assert dataset["labels"] == LABELS
    assert dataset["overwrite_image_reader_writer"] == "NibabelIOWithReorient"
    assert "MIT" in dataset["licence"]
    assert "10.1002/mp.14845" in dataset["reference"]
    assert report.notes[0] == "left out, without contours of mandible: HN_002"
    assert report.absent_organs == report.rewritten == {}


def test_parts_that_are_not_complete_are_said(conversion):
    assert convert(replace(conversion, dry_run=True)).notes[1:] == [
        "train-pats holds 3 of 200 patients",
        "validation-pats holds 1 of 40 patients",
        "test-pats holds 2 of 100 patients",
    ]


def test_voxels_and_geometry(conversion):
    folder = convert(conversion).folder
    image = sitk.ReadImage(str(folder / "imagesTr/HN_001_0000.nii.gz"))
    label = sitk.ReadImage(str(folder / "labelsTr/HN_001.nii.gz"))
    assert image.GetSpacing() == pytest.approx((SPACING_MM[1], SPACING_MM[0], SPACING_MM[2]))
    for volume in (image, label):
        assert volume.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1), "to the left, to the back, upwards"
    stored = body(1)
    for at in ((0, 0, 0), (11, 17, 13), (3, 16, 5)):  # anterior to posterior, right to left, superior to inferior
        back, left, down = np.add(CORNER, at) * SPACING_MM
        place = image.TransformPhysicalPointToIndex((left, back, -down))
        assert image[place] == stored[at] - 1024
    for value, name in enumerate(FILES, start=1):
        back, left, down = (np.add(CORNER, PLACES[name]) + 0.5) * SPACING_MM
        shape = sitk.LabelShapeStatisticsImageFilter()
        shape.Execute(label)
        assert shape.GetNumberOfPixels(value) == 8
        assert shape.GetCentroid(value) == pytest.approx((left, back, -down))


def test_chosen_organs(conversion):
    chosen = with_data_set(conversion, "Larynx", "spinal-cord", "RIGHT PAROTID")
    report = convert(chosen)
    dataset = json.loads((report.folder / "dataset.json").read_text())
    assert dataset["labels"] == {"background": 0, "spinal_cord": 1, "right_parotid": 2, "larynx": 3}
    assert (report.training, report.test) == (["HN_001", "HN_003", "HN_201"], ["HN_241"])
    assert report.notes[0] == "left out, without contours of larynx: HN_002, HN_242"
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(report.folder / "labelsTr/HN_003.nii.gz")))
    assert np.bincount(label.ravel())[1:].tolist() == [8, 8, 8]


def test_the_organ_with_the_higher_number_wins(clone, conversion):
    for name in ("RightParotid", "SpinalCord"):
        shutil.copy(folder_of(clone, 1) / "Brainstem.csv", folder_of(clone, 1) / f"{name}.csv")
    folder = convert(conversion).folder
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "labelsTr/HN_001.nii.gz")))
    assert np.bincount(label.ravel())[1:].tolist() == [0, 0, 8, 8, 8]


def test_an_unknown_organ():
    with pytest.raises(ValueError, match=r"--organs liver: OpenKBP draws brainstem, .*, larynx; name some of these"):
        with_organs(["larynx", "liver"])
    assert DATA_SET.organ_choice[5:] == tuple(name.lower() for name in MORE_FILES)


@pytest.mark.parametrize("level", ["..", "provided-data", "zip"])
def test_a_zip_and_any_level_of_the_clone_give_the_same_files(level, clone, conversion, tmp_path):
    source = clone / level
    if level == "zip":
        source = tmp_path / "open-kbp-master.zip"
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in clone.rglob("*.csv"):
                archive.write(file, file.relative_to(tmp_path))
    first = convert(conversion).folder
    other = convert(replace(conversion, source=source, raw_root=tmp_path / "other")).folder
    files = sorted(path.relative_to(first) for path in first.rglob("*.nii.gz"))
    assert len(files) == 10
    assert all((first / file).read_bytes() == (other / file).read_bytes() for file in files)


def test_a_conversion_that_was_killed_continues(conversion):
    folder = convert(conversion).folder
    whole = {path: path.read_bytes() for path in folder.rglob("*.nii.gz")}
    (folder / "dataset.json").unlink()
    next(iter(whole)).write_bytes(b"half")
    assert convert(conversion).continued
    assert {path: path.read_bytes() for path in folder.rglob("*.nii.gz")} == whole


def rewrite(name, text):
    return lambda folder: (folder / f"{name}.csv").write_text(text)


@pytest.mark.parametrize(
    ("damage", "file", "fact"),
    [
        (lambda folder: (folder / "ct.csv").unlink(), "", "has no ct.csv"),
        (lambda folder: (folder / "voxel_dimensions.csv").unlink(), "", "has no voxel_dimensions.csv"),
        (rewrite("Mandible", ",data\n"), "/Mandible.csv", "lists no voxel"),
        (rewrite("Mandible", ""), "/Mandible.csv", "cannot be read (its first line is ''"),
        (rewrite("SpinalCord", ",data\n2097152,\n"), "/SpinalCord.csv", "names the voxel 2097152; 128 x 128 x 128"),
        (rewrite("ct", ",data\n2097152,5\n"), "/ct.csv", "names the voxel 2097152; 128 x 128 x 128"),
        (rewrite("ct", "\x00\x01"), "/ct.csv", "cannot be read (its first line is"),
        (rewrite("ct", ",data\n1,many\n"), "/ct.csv", "cannot be read (could not convert string 'many'"),
        (rewrite("ct", ",data\n1,nan\n"), "/ct.csv", "contains NaN or infinite values"),
        (rewrite("ct", ",data\n1,-1000\n2,500\n"), "/ct.csv", "holds values from -1000 to 500, allowed are 0 to 32767"),
        (rewrite("voxel_dimensions", "3.9\n2.5\n"), "/voxel_dimensions.csv", "holds 2 numbers"),
        (rewrite("voxel_dimensions", "39\n39\n25\n"), "/voxel_dimensions.csv", "gives voxels of 39 x 39 x 25 mm"),
    ],
)
def test_a_fault_is_one_line_and_nothing_is_written(damage, file, fact, clone, conversion):
    damage(folder_of(clone, 3))
    problem = only_problem_of(conversion)
    assert problem.file == f"provided-data/train-pats/pt_3{file}"
    assert problem.fact.startswith(fact)
    assert "restore the file from the repository" in problem.remedy
    assert convert(replace(conversion, skip_bad_cases=True)).training == ["HN_001", "HN_201"]


def test_faults_of_several_files_are_all_named(clone, conversion):
    for name in ("ct", "Mandible", "Brainstem"):
        rewrite(name, ",data\n")(folder_of(clone, 3))
    found = sorted(problem.file.rpartition("/")[2] for problem in problems_of(conversion))
    assert found == ["Brainstem.csv", "Mandible.csv", "ct.csv"]


def test_a_patient_that_is_there_twice(clone, conversion):
    shutil.copytree(folder_of(clone, 3), clone / "copy" / "train-pats" / "pt_3")
    problem = only_problem_of(conversion)
    assert str(problem).startswith("provided-data/train-pats/pt_3: is patient 3 again, besides copy/train-pats/pt_3 ->")


@pytest.mark.parametrize(("place", "kind"), [("train-pats/pt_241", "training"), ("test-pats/pt_3", "test")])
def test_a_patient_in_another_part(place, kind, clone, conversion):
    shutil.copytree(folder_of(clone, 1), clone / "provided-data" / place)
    assert only_problem_of(conversion).fact.startswith(f"is no {kind} patient of OpenKBP")


def test_another_folder_is_refused(tmp_path, raw):
    (tmp_path / "else").mkdir()
    with pytest.raises(ValueError, match=r"else holds no patient of OpenKBP: give the clone of https://github\.com"):
        convert(conversion_of("openkbp", tmp_path / "else", raw))


def test_the_split_of_the_study_is_that_of_the_shared_data(openkbp, tmp_path):
    splits = json.loads((openkbp / "splits.json").read_text())
    everybody = [*splits["train"], *splits["tune"], *splits["report"]]
    for number in [*(int(case[3:]) for case in everybody), 3, 241]:
        folder_of(tmp_path, number).mkdir(parents=True)
        for name in ("ct", "voxel_dimensions", *FILES):
            (folder_of(tmp_path, number) / f"{name}.csv").touch()
    selection = selected("openkbp", tmp_path, "tune-report")
    assert selection.folds == (
        {"train": splits["train"], "val": splits["tune"]},
        {"train": splits["train"], "val": splits["report"]},
    )
    assert list(selection.training) == sorted(everybody)
    assert (list(selection.test), selection.left_out) == (["HN_241"], ("HN_003",))
    assert selection.case_problems == ()
    assert sorted(splits["train"] + splits["report"]) == splits["official"]["train"]


def test_a_patient_of_the_split_that_lacks_an_organ_is_in_no_fold(tmp_path, raw):
    clone = tmp_path / "open-kbp"
    for number in (1, 4, 201):
        write_patient(clone, number)
    write_patient(clone, 2, lacking=("Mandible",))
    conversion = conversion_of("openkbp", clone, raw, "tune-report", skip_bad_cases=True)
    folder = convert(conversion).folder
    splits = json.loads((folder / "splits_final.json").read_text())
    assert splits == [{"train": ["HN_001"], "val": ["HN_201"]}, {"train": ["HN_001"], "val": ["HN_004"]}]


def test_a_patient_of_the_split_that_lacks_an_organ_is_refused(tmp_path, openkbp):
    splits = json.loads((openkbp / "splits.json").read_text())
    for case in [*splits["train"], *splits["tune"], *splits["report"]]:
        folder_of(tmp_path, int(case[3:])).mkdir(parents=True)
        for name in ("ct", "voxel_dimensions", *FILES):
            (folder_of(tmp_path, int(case[3:])) / f"{name}.csv").touch()
    for number in (1, 4):
        (folder_of(tmp_path, number) / "Mandible.csv").unlink()
    problems = selected("openkbp", tmp_path, "tune-report").case_problems
    assert [(problem.file, problem.fact) for problem in problems] == [
        (case, "without contours of mandible, but split tune-report uses it for training")
        for case in ("case HN_001", "case HN_004")
    ]


def test_a_ct_that_was_cut_off_at_the_end_of_a_line(clone, conversion):
    path = folder_of(clone, 3) / "ct.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:300]))
    facts = [problem.fact for problem in problems_of(conversion)]
    assert facts
    assert all(re.fullmatch(r"(50|100)% of its voxels are not in ct\.csv: one of the two is damaged", f) for f in facts)


def test_parotids_that_were_exchanged(clone, conversion):
    right, left = (folder_of(clone, 3) / f"{side}Parotid.csv" for side in ("Right", "Left"))
    content = right.read_text()
    right.write_text(left.read_text())
    left.write_text(content)
    assert only_problem_of(conversion).fact == "RightParotid.csv lies to the left of LeftParotid.csv"


@pytest.fixture(scope="module")
def _real(tmp_path_factory):
    return tmp_path_factory.mktemp("real")


@pytest.fixture
def real(openkbp, _real):
    """The two patients in the repository's own layout, converted."""
    conversion = conversion_of("openkbp", openkbp / "raw", _real)
    return conversion.folder if conversion.folder.exists() else convert(conversion).folder


CASES = ("HN_001", "HN_201")


@pytest.mark.parametrize("case", CASES)
def test_real_patients_are_those_that_others_have_converted(case, real, openkbp):
    """The shared NIfTI files were not made by us; they are cropped to the same body with another margin."""

    def both(folder, image, label):
        volumes = [nibabel.as_closest_canonical(nibabel.load(folder / name)) for name in (image, label)]
        return volumes[0].header.get_zooms(), *(np.asarray(volume.dataobj) for volume in volumes)

    zooms, image, label = both(real, f"imagesTr/{case}_0000.nii.gz", f"labelsTr/{case}.nii.gz")
    expected_zooms, expected, expected_label = both(openkbp, f"images/{case}.nii.gz", f"labels/{case}.nii.gz")
    assert zooms == pytest.approx(expected_zooms)
    shift = np.argwhere(label).min(0) - np.argwhere(expected_label).min(0)
    placed = np.full(expected.shape, -1024), np.zeros(expected.shape, int)
    for whole, part in zip(placed, (image, label), strict=True):
        inside = [slice(max(0, -at), size - at) for at, size in zip(shift, part.shape, strict=True)]
        from_part = [slice(max(0, at), at + size) for at, size in zip(shift, whole.shape, strict=True)]
        whole[tuple(inside)] = part[tuple(from_part)]
    assert np.array_equal(placed[0], expected)
    assert np.array_equal(placed[1], expected_label)


@pytest.mark.parametrize("case", CASES)
def test_real_anatomy(case, real):
    """As nnU-Net reads them: arrays (Z, Y, X) towards superior, anterior, right."""
    from nnunetv2.imageio.nibabel_reader_writer import NibabelIOWithReorient

    reader = NibabelIOWithReorient()
    image, _ = reader.read_images((str(real / f"imagesTr/{case}_0000.nii.gz"),))
    label, _ = reader.read_seg(str(real / f"labelsTr/{case}.nii.gz"))
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(sitk.ReadImage(str(real / f"labelsTr/{case}.nii.gz")))
    centre = {name: np.array(shape.GetCentroid(value)) for name, value in list(LABELS.items())[1:]}  # LPS
    assert 60 < (centre["left_parotid"] - centre["right_parotid"])[0] < 160, "mm, to the left"
    assert (centre["brainstem"] - centre["spinal_cord"])[2] > 50, "mm, upwards"
    assert (centre["brainstem"] - centre["mandible"])[1] > 30, "mm, to the back"
    assert abs((centre["brainstem"] - (centre["left_parotid"] + centre["right_parotid"]) / 2)[0]) < 20, "mm"
    mean_hu = {name: image[0][label[0] == value].mean() for name, value in LABELS.items()}
    assert mean_hu["mandible"] > 400
    assert -20 < mean_hu["brainstem"] < 100
    assert -150 < mean_hu["left_parotid"] < 150
    z, y, x = np.nonzero(label[0] == LABELS["right_parotid"])
    assert x.mean() > np.nonzero(label[0] == LABELS["left_parotid"])[2].mean()
    assert y.mean() < np.nonzero(label[0] == LABELS["mandible"])[1].mean()
    assert z.mean() > np.nonzero(label[0] == LABELS["spinal_cord"])[0].mean()
