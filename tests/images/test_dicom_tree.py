from pathlib import Path

import pydicom
import pytest
from pydicom.uid import (
    MediaStorageDirectoryStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    RTDoseStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from tests.images.scans import slice_dataset, write_series
from unetr_nnunet.images.dicom_header import read_header
from unetr_nnunet.images.dicom_series import read_series
from unetr_nnunet.images.dicom_tree import find_series, in_slice_order

VOLUMES = (".nii.gz", ".nii")


def changed(**values: object):
    """Give every slice these attributes; None deletes one."""

    def edit(_: int, dataset: pydicom.Dataset) -> None:
        for keyword, value in values.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)

    return edit


def test_slices_are_in_order_whatever_their_names(tmp_path: Path) -> None:
    files = write_series(tmp_path, uid="1.2.3")
    series, words = find_series(tmp_path, "CT", VOLUMES)
    assert [(each.folder, each.number, each.uid) for each in series] == [(tmp_path, "3", "1.2.3")]
    assert series[0].files == tuple(files) != tuple(sorted(files))
    assert words == []


def test_order_follows_the_normal(tmp_path: Path) -> None:
    def turned(number: int, dataset: pydicom.Dataset) -> None:
        dataset.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]  # rows run to the right: the normal points down

    headers = [read_header(path) for path in write_series(tmp_path, turned)]
    assert in_slice_order(headers) == headers[::-1]


def test_by_name_where_a_position_is_missing(tmp_path: Path) -> None:
    def forget(number: int, dataset: pydicom.Dataset) -> None:
        if number == 2:
            del dataset.ImagePositionPatient

    headers = [read_header(path) for path in write_series(tmp_path, forget)]
    assert [header.path for header in in_slice_order(headers)] == sorted(header.path for header in headers)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"Modality": "MR"}, "modality MR, the model is for CT"),
        ({"Modality": "PT"}, "modality PT, the model is for CT"),
        ({"Modality": "SR", "Rows": None, "Columns": None, "PixelData": None}, "modality SR"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "screen capture"),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "secondary capture"),
        ({"SOPClassUID": MultiFrameTrueColorSecondaryCaptureImageStorage}, "secondary capture"),
        ({"SOPClassUID": SegmentationStorage, "Modality": "SEG"}, "modality SEG"),
        ({"SOPClassUID": SegmentationStorage}, "no image (modality CT)"),
        ({"SOPClassUID": "1.3.12.2.1107.5.9.1", "Rows": None, "PixelData": None}, "no image (modality CT)"),
        ({"SOPClassUID": RTDoseStorage, "Modality": "RTDOSE"}, "modality RTDOSE"),
        ({"SOPClassUID": RTStructureSetStorage, "Modality": "RTSTRUCT", "Rows": None, "PixelData": None}, "RTSTRUCT"),
    ],
)
def test_other_series_are_skipped_with_a_word(tmp_path: Path, values: dict[str, object], reason: str) -> None:
    files = write_series(tmp_path / "scan")
    other = write_series(tmp_path / "other", changed(SeriesNumber=9, **values))
    for path in other:
        path.rename(tmp_path / "scan" / f"other_{path.name}")
    series, words = find_series(tmp_path, "CT", VOLUMES)
    assert [each.files for each in series] == [tuple(files)]
    assert len(words) == 1
    assert f"{tmp_path / 'scan'}: series 9 skipped (6 files): " in words[0]
    assert reason in words[0]


def test_without_a_modality_only_what_is_no_scan_is_skipped(tmp_path: Path) -> None:
    write_series(tmp_path / "mr", changed(Modality="MR"))
    write_series(tmp_path / "rt", changed(SOPClassUID=RTStructureSetStorage, Modality="RTSTRUCT", Rows=None))
    series, words = find_series(tmp_path, None, VOLUMES)
    assert [each.folder.name for each in series] == ["mr"]
    assert "no image (modality RTSTRUCT)" in words[0]


def test_a_localizer_inside_a_series_leaves_the_series(tmp_path: Path) -> None:
    def edit(number: int, dataset: pydicom.Dataset) -> None:
        if number == 0:
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    files = write_series(tmp_path, edit)
    series, words = find_series(tmp_path, "CT", VOLUMES)
    assert series[0].files == tuple(files[1:])
    assert "series 3 skipped (1 files): localizer" in words[0]


def test_anonymised_slices_without_a_series_uid(tmp_path: Path) -> None:
    files = write_series(tmp_path, changed(SeriesInstanceUID=None, SeriesNumber=None))
    assert find_series(tmp_path, "CT", VOLUMES)[0][0].files == tuple(files)


@pytest.mark.parametrize("kept_bytes", range(0, 900, 25))
def test_a_slice_cut_short_anywhere_stays_in_its_series(tmp_path: Path, kept_bytes: int) -> None:
    files = write_series(tmp_path)
    files[5].write_bytes(files[5].read_bytes()[:kept_bytes])
    series, words = find_series(tmp_path, "CT", VOLUMES)
    assert set(series[0].files) == set(files)
    assert (len(series), words) == (1, [])


def test_a_slice_without_pixels_stays_to_be_refused(tmp_path: Path) -> None:
    def edit(number: int, dataset: pydicom.Dataset) -> None:
        if number == 2:
            del dataset.PixelData, dataset.Rows

    write_series(tmp_path, edit)
    assert len(find_series(tmp_path, "CT", VOLUMES)[0][0].files) == 6


@pytest.mark.parametrize("content", [b"", b"damaged", bytes(5000)])
def test_a_damaged_slice_stays_in_its_series(tmp_path: Path, content: bytes) -> None:
    files = write_series(tmp_path)
    files[5].write_bytes(content)
    series, words = find_series(tmp_path, "CT", VOLUMES)
    assert set(series[0].files) == set(files)
    assert words == []


def two_series(folder: Path, ending: str = ".dcm") -> None:
    for name in ("a", "b"):
        for path in write_series(folder / name):
            path.rename(folder / f"{name}_{path.stem}{ending}")


def test_a_damaged_file_among_several_series_breaks_them_all(tmp_path: Path) -> None:
    two_series(tmp_path)
    bad = tmp_path / "a_IM0003.dcm"
    bad.write_bytes(bad.read_bytes()[:200])
    series, words = find_series(tmp_path, "CT", VOLUMES)
    assert words == []
    assert sorted(len(each.files) for each in series) == [6, 7]
    for each in series:
        assert bad in each.files
        with pytest.raises(ValueError, match=r"a_IM0003\.dcm is .*; restore it, or move it out"):
            read_series(each.files)


def test_a_damaged_file_that_tells_its_series_breaks_that_one(tmp_path: Path) -> None:
    two_series(tmp_path)
    bad = tmp_path / "a_IM0003.dcm"
    bad.write_bytes(bad.read_bytes()[: -2 * 8 * 10 - 12])  # all but the pixels
    series, words = find_series(tmp_path, "CT", VOLUMES)
    assert words == []
    assert [len(each.files) for each in series] == [6, 6]
    assert sum(bad in each.files for each in series) == 1


@pytest.mark.parametrize("ending", ["", ".123", ".img"])
@pytest.mark.parametrize("content", [b"", bytes(100), bytes(5000)])
def test_a_slice_without_content_whatever_its_ending(tmp_path: Path, ending: str, content: bytes) -> None:
    two_series(tmp_path, ending)
    bad = tmp_path / f"a_IM0001{ending}"
    bad.write_bytes(content)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "VERSION").write_text("1")
    series, _ = find_series(tmp_path, "CT", VOLUMES)
    assert sorted(len(each.files) for each in series) == [6, 7]
    assert all(bad in each.files for each in series)


@pytest.mark.parametrize("ending", ["", ".dcm"])
def test_a_file_that_cannot_be_read_breaks_the_series_of_its_folder(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_series(tmp_path, ending)
    bad, real = tmp_path / f"a_IM0001{ending}", Path.open

    def refuse(path: Path, *arguments: str, **more: str):
        if path in (bad, tmp_path / "notes.txt"):
            raise OSError(5, "Input/output error")
        return real(path, *arguments, **more)

    (tmp_path / "notes.txt").touch()
    monkeypatch.setattr(Path, "open", refuse)
    series, words = find_series(tmp_path, "CT", VOLUMES)
    assert words == []
    assert sorted(len(each.files) for each in series) == [6, 7]
    for each in series:
        with pytest.raises(OSError, match=f"a_IM0001{ending}"):
            read_series(each.files)


def test_only_damaged_files_are_a_series_that_will_be_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.dcm").write_bytes(b"damaged")
    series, _ = find_series(tmp_path, "CT", VOLUMES)
    assert series[0].files == (tmp_path / "bad.dcm",)


def test_other_files_of_a_disc_are_passed_over(tmp_path: Path) -> None:
    write_series(tmp_path / "DICOM")
    (tmp_path / "README.TXT").write_text("a disc")
    (tmp_path / "DICOM" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "DICOM" / "VERSION").write_bytes(b"1")
    index = slice_dataset(0, pydicom.dcmread(next((tmp_path / "DICOM").glob("*.dcm"))).pixel_array, "1.2")
    index.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    index.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "PixelData"):
        delattr(index, keyword)
    index.save_as(tmp_path / "DICOM" / "DICOMDIR", enforce_file_format=True)
    series, words = find_series(tmp_path, "CT", VOLUMES)
    assert [len(each.files) for each in series] == [6]
    assert words == []


def test_files_without_an_ending(tmp_path: Path) -> None:
    for path in write_series(tmp_path):
        path.rename(tmp_path / path.stem)
    assert len(find_series(tmp_path, "CT", VOLUMES)[0][0].files) == 6


def test_every_multi_frame_file_is_a_volume_of_its_own(tmp_path: Path) -> None:
    write_series(tmp_path, changed(NumberOfFrames=2))
    series, _ = find_series(tmp_path, "CT", VOLUMES)
    assert [len(each.files) for each in series] == [1] * 6


def test_a_series_in_two_folders_is_said(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_series(tmp_path / folder, uid="1.2.3")
    series, words = find_series(tmp_path, "CT", VOLUMES)
    assert len(series) == 2
    assert "series 1.2.3 lies in 2 folders, each a case of its own" in words[0]


def test_links_are_followed_once(tmp_path: Path) -> None:
    write_series(tmp_path / "far" / "anna")
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(tmp_path / "far")
    (root / "again").symlink_to(tmp_path / "far" / "anna")
    (tmp_path / "far" / "loop").symlink_to(root)
    (root / "self").symlink_to(root / "self")
    series, _ = find_series(root, "CT", VOLUMES)
    assert len(series) == 1


def test_folders_below_only_where_asked(tmp_path: Path) -> None:
    write_series(tmp_path / "below")
    assert find_series(tmp_path, "CT", VOLUMES, with_folders_below=False) == ([], [])


def test_hidden_folders_are_left_out(tmp_path: Path) -> None:
    write_series(tmp_path / ".trash")
    assert find_series(tmp_path, "CT", VOLUMES) == ([], [])


def test_a_folder_that_cannot_be_listed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path / "open")
    (tmp_path / "locked").mkdir()
    listing = Path.iterdir

    def refuse(path: Path):
        if path.name == "locked":
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    series, words = find_series(tmp_path, "CT", VOLUMES)
    assert len(series) == 1
    assert words == [f"{tmp_path / 'locked'} cannot be read: Permission denied"]
