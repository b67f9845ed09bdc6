import json
import shutil
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from unetr_nnunet.dataset_conversion.sources import btcv
from unetr_nnunet.phantom import download, generate_case, write_phantom
from unetr_nnunet.phantom.case import PhantomCase

EXPECTED = [
    "RawData/Testing/img/img0061.nii.gz",
    "RawData/Training/img/img0001.nii.gz",
    "RawData/Training/img/img0002.nii.gz",
    "RawData/Training/label/label0001.nii.gz",
    "RawData/Training/label/label0002.nii.gz",
    "Testing_labels/label0061.nii.gz",
    "phantom.json",
]


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> Path:
    """Two training cases and a test case, painted by two processes."""
    out = tmp_path_factory.mktemp("phantom")
    write_phantom(out, size="demo", training=2, testing=1, seed=7, workers=2)
    return out


@pytest.fixture
def quick(monkeypatch) -> list[int]:
    """Replace painting by tiny cases; returns the numbers painted."""
    painted: list[int] = []

    def generate(number: int, size: str, seed: int) -> PhantomCase:
        painted.append(number)
        image = np.full((3, 4, 5), number, np.int16)
        return PhantomCase(
            image, (image % 14).astype(np.uint8), (5.0, 3.0, 3.0), np.diag([-3.0, -3, 5, 1]), "LPS", "portal"
        )

    monkeypatch.setattr(download, "generate_case", generate)
    return painted


def test_layout_is_that_of_the_btcv_download(rendered):
    assert files(rendered) == EXPECTED


def test_workers_do_not_change_a_byte(rendered, tmp_path):
    write_phantom(tmp_path, size="demo", training=1, testing=1, seed=7, workers=1)
    for name in ("RawData/Testing/img/img0061.nii.gz", "RawData/Training/label/label0001.nii.gz"):
        assert (tmp_path / name).read_bytes() == (rendered / name).read_bytes()


def test_files_hold_the_case_in_its_own_geometry(rendered):
    case = generate_case(2, "demo", 7)
    folder = rendered / "RawData" / "Training"
    image = sitk.ReadImage(str(folder / "img" / "img0002.nii.gz"))
    label = sitk.ReadImage(str(folder / "label" / "label0002.nii.gz"))
    assert image.GetPixelID() == sitk.sitkInt16
    assert label.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), case.image_hu)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(label), case.labels)
    np.testing.assert_allclose(image.GetSpacing(), case.spacing_mm[::-1], rtol=1e-6)
    sign = 1 if case.orientation == "LPS" else -1
    np.testing.assert_allclose(image.GetDirection(), np.diag([sign, sign, 1]).ravel(), atol=1e-6)
    for get in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(image, get)(), getattr(label, get)(), atol=1e-6)
    header = nibabel.load(folder / "img" / "img0002.nii.gz").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)


def test_zip_holds_the_folder(tmp_path, quick):
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    assert write_phantom(plain, size="demo", training=12, testing=2, workers=1) == plain / "RawData"
    archive = write_phantom(packed, size="demo", training=12, testing=2, workers=1, as_zip=True)
    assert archive == packed / "RawData.zip"
    assert not (packed / "RawData").exists()
    with zipfile.ZipFile(archive) as content:
        assert content.testzip() is None
        names = content.namelist()
        assert names == [name for name in files(plain) if name.startswith("RawData")]
        assert "RawData/Training/img/img0021.nii.gz" in names
        for name in names:
            assert content.read(name) == (plain / name).read_bytes()
            assert content.getinfo(name).compress_type == zipfile.ZIP_STORED
    before = archive.stat().st_mtime_ns
    quick.clear()
    write_phantom(packed, size="demo", training=12, testing=2, workers=1, as_zip=True)
    assert quick == []
    assert archive.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"RawData\.zip exists already"):
        write_phantom(packed, size="demo", training=12, testing=2, workers=1)


def test_zip_of_an_existing_folder_is_the_same(tmp_path, quick):
    one = write_phantom(tmp_path / "one", size="demo", training=2, testing=1, workers=1, as_zip=True)
    write_phantom(tmp_path / "two", size="demo", training=2, testing=1, workers=1)
    (tmp_path / "two/RawData/Training/img/.tmp-abc-img0001.nii.gz").write_bytes(b"left over")
    two = write_phantom(tmp_path / "two", size="demo", training=2, testing=1, workers=1, as_zip=True)
    assert one.read_bytes() == two.read_bytes()


def test_default_numbers_are_those_of_btcv(tmp_path, quick):
    write_phantom(tmp_path, size="demo", workers=1)
    assert quick == [*range(1, 11), *range(21, 41), *range(61, 81)]


def test_numbers_are_those_the_converter_expects():
    assert download.TRAINING_NUMBERS == btcv.TRAINING_NUMBERS
    assert download.TEST_NUMBERS == btcv.TEST_NUMBERS


def test_interrupted_run_continues(tmp_path, quick, monkeypatch):
    generate = download.generate_case

    def dies(number: int, size: str, seed: int) -> PhantomCase:
        if number == 3:
            raise KeyboardInterrupt
        return generate(number, size, seed)

    monkeypatch.setattr(download, "generate_case", dies)
    with pytest.raises(KeyboardInterrupt):
        write_phantom(tmp_path, size="demo", training=4, testing=0, workers=1)
    (tmp_path / "RawData/Training/img/img0002.nii.gz").unlink()
    monkeypatch.setattr(download, "generate_case", generate)
    quick.clear()
    write_phantom(tmp_path, size="demo", training=4, testing=0, workers=1)
    assert quick == [2, 3, 4]
    assert len(files(tmp_path)) == 9


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 1}, "seed 0"),
        ({"size": "half"}, "size demo"),
        ({"training": 3}, "training 2"),
        ({"testing": 0}, "testing 1"),
    ],
)
def test_folder_of_other_settings_is_refused(tmp_path, quick, change, said):
    settings = {"size": "demo", "training": 2, "testing": 1, "seed": 0, "workers": 1}
    write_phantom(tmp_path, **settings)
    before = files(tmp_path)
    with pytest.raises(ValueError, match=said):
        write_phantom(tmp_path, **(settings | change))
    assert files(tmp_path) == before


def test_folder_of_another_version_is_refused(tmp_path, quick):
    write_phantom(tmp_path, size="demo", training=1, testing=0, workers=1)
    path = tmp_path / "phantom.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"anatomy_version": 0}))
    with pytest.raises(ValueError, match="anatomy_version 0"):
        write_phantom(tmp_path, size="demo", training=1, testing=0, workers=1)


def test_a_real_download_is_left_alone(tmp_path, quick):
    real = tmp_path / "RawData" / "Training" / "img" / "img0001.nii.gz"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"a patient")
    with pytest.raises(ValueError, match="was not made by this command"):
        write_phantom(tmp_path, size="demo", training=1, testing=0, workers=1, as_zip=True)
    assert real.read_bytes() == b"a patient"
    shutil.rmtree(tmp_path / "RawData")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": "tiny"}, "tiny"),
        ({"training": 31}, r"0\.\.30"),
        ({"testing": -1}, r"0\.\.20"),
        ({"training": 0, "testing": 0}, "at least 1"),
        ({"seed": -1}, "-1"),
        ({"workers": 0}, "workers must be at least 1"),
    ],
)
def test_impossible_settings_leave_nothing_behind(tmp_path, change, said):
    with pytest.raises(ValueError, match=said):
        write_phantom(tmp_path / "out", **({"size": "demo", "workers": 1} | change))
    assert not (tmp_path / "out").exists()


def test_left_overs_of_a_killed_run_are_removed(tmp_path, quick):
    write_phantom(tmp_path, size="demo", training=1, testing=0, workers=1)
    before = files(tmp_path)
    (tmp_path / "RawData/Training/img/.tmp-abc-img0001.nii.gz").write_bytes(b"half a file")
    write_phantom(tmp_path, size="demo", training=1, testing=0, workers=1)
    assert files(tmp_path) == before
