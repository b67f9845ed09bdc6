from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from unetr_nnunet.viewer.confinement import GivenPaths


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A folder that is given, beside one that is not."""
    for name in ("given", "secret"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.nii.gz").write_bytes(name.encode())
    return tmp_path / "given"


def test_files_inside_are_let_through(given: Path) -> None:
    GivenPaths([given]).refuse_outside(given / "a.nii.gz")
    GivenPaths([given / "a.nii.gz"]).refuse_outside(given / "a.nii.gz")
    (given / "below").mkdir()
    (given / "below" / "link.nii.gz").symlink_to(given / "a.nii.gz")
    GivenPaths([given]).refuse_outside(given / "below" / "link.nii.gz")


def test_files_and_links_outside_are_refused(given: Path) -> None:
    secret = given.parent / "secret"
    (given / "link.nii.gz").symlink_to(secret / "a.nii.gz")
    (given / "folder").symlink_to(secret)
    (given / "dangling.nii.gz").symlink_to(secret / "none.nii.gz")
    twin = given.parent / "given_too"
    twin.mkdir()
    for path in (
        given / "link.nii.gz",
        given / "folder" / "a.nii.gz",
        given / "dangling.nii.gz",
        given / ".." / "secret" / "a.nii.gz",
        secret / "a.nii.gz",
        twin / "a.nii.gz",
    ):
        with pytest.raises(ValueError, match="outside of the given folders"):
            GivenPaths([given]).refuse_outside(path)
    GivenPaths([given, secret]).refuse_outside(given / "link.nii.gz")


def test_a_given_link_is_followed(given: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(given)
    GivenPaths([tmp_path / "link"]).refuse_outside(tmp_path / "link" / "a.nii.gz")


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".nhdr"])
def test_voxels_beside_the_header_are_let_through_as_simpleitk_writes_them(given: Path, ending: str) -> None:
    path = given / f"image{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 4), np.int16)), str(path))
    GivenPaths([given]).refuse_outside(path)


@pytest.mark.parametrize(
    "voxels", ["/etc/passwd", "../secret/a.nii.gz", "LIST", "slice%03d.raw 1 3 1", "stolen.raw", "folder/a.nii.gz"]
)
@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".nhdr"])
def test_headers_that_name_files_elsewhere_are_refused(given: Path, voxels: str, ending: str) -> None:
    (given / "stolen.raw").symlink_to(given.parent / "secret" / "a.nii.gz")
    path = given / f"image{ending}"
    field = f"NDims = 3\nElementDataFile = {voxels}\n" if ending.startswith(".m") else f"data file: {voxels}\n\n"
    path.write_text("NRRD0004\n" * (not ending.startswith(".m")) + field)
    with pytest.raises(ValueError, match=r"keeps its voxels in|outside of the given folders"):
        GivenPaths([given]).refuse_outside(path)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.mha", b"NDims = 3\nElementDataFile : /etc/passwd\n"),
        ("a.mha", b"NDims = 3\n  elementdatafile=/etc/passwd\r\n"),
        ("a.mha", b"NDims = 3\nelementdatafile=/etc/passwd\nElementDataFile = LOCAL\n"),
        ("a.mha", b"NDims = 3\nComment = x\rElementDataFile = /etc/passwd\nElementDataFile = LOCAL\n"),
        ("a.nrrd", b"NRRD0004\ndatafile: a.raw\ndata file: /etc/passwd\n\n"),
        ("a.nrrd", b"NRRD0004\rdata file: /etc/passwd\r\r"),
        ("a.nhdr", b"NRRD0004\ndimension: 3\rdata file: ../secret/a.nii.gz\n\n"),
        ("a.nrrd", b"NRRD0004\n" + b"# comment\n" * 200_000 + b"data file: /etc/passwd\n\n"),
        ("a.mhd", b"Comment = x\n" * 200_000 + b"ElementDataFile = /etc/passwd\n"),
    ],
    ids=["colon", "lower case", "two keys", "return", "two", "bare CR", "one CR", "long NRRD", "long MetaImage"],
)
def test_other_spellings_and_long_headers_are_refused_too(given: Path, name: str, header: bytes) -> None:
    (given / name).write_bytes(header)
    with pytest.raises(ValueError, match=r"keeps its voxels in|no end in|its header"):
        GivenPaths([given]).refuse_outside(given / name)


def test_voxels_that_look_like_a_header_do_no_harm(given: Path) -> None:
    (given / "a.nrrd").write_bytes(b"NRRD0004\nencoding: raw\n\n\ndata file: /etc/passwd\n")
    (given / "a.mha").write_bytes(b"NDims = 3\nElementDataFile = LOCAL\nElementDataFile = /etc/passwd\n")
    for name in ("a.nrrd", "a.mha"):
        GivenPaths([given]).refuse_outside(given / name)
