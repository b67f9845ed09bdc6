from pathlib import Path

import pytest
import SimpleITK as sitk

from tests.images.scans import volume
from unetr_nnunet.images.meta_header import meta_header_defect

HEADER = b"""ObjectType = Image
NDims = 3
Comment = a scan: x = 1
BinaryData = True
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = -50 4e1 -.5
DimSize = 10 8 6
ElementType = MET_SHORT
ElementDataFile = LOCAL
"""


@pytest.mark.parametrize("dimensions", [2, 3, 4])
@pytest.mark.parametrize("ending", [".mha", ".mhd"])
def test_what_simpleitk_writes_is_sound(tmp_path: Path, ending: str, dimensions: int) -> None:
    image = {2: volume()[:, :, 0], 3: volume(), 4: sitk.JoinSeries(volume())}[dimensions]
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(image, str(path))
    assert meta_header_defect(path.read_bytes()) == ""


def test_line_ends_and_what_follows_the_header_do_not_matter() -> None:
    assert meta_header_defect(HEADER + b"\x00\xff\n\n") == ""
    assert meta_header_defect(HEADER.replace(b"\n", b"\r\n")) == ""
    assert meta_header_defect(HEADER.rstrip()) == ""


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"NDims = 3", b"NDims = 99999", "NDims = 99999"),
        (b"NDims = 3", b"NDims = -3", "NDims = -3"),
        (b"NDims = 3\n", b"", "NDims = nothing"),
        (b"NDims = 3", b"NDims = 2", "where 4 numbers belong"),
        (b"10 8 6", b"10 8", "DimSize = 10 8, where 3 numbers belong"),
        (b"10 8 6", b"10 8 6 7", "DimSize"),
        (b"10 8 6", b"10 8 x", "DimSize"),
        (b"10 8 6", b"10 8 " + b"6" * 100, "DimSize"),
        (b"BinaryData", b"NDims", "NDims twice"),
        (b"BinaryData = True", b"BinaryData", "line 4 of its header is no 'key = value'"),
        (b"BinaryData", b"\xff\x00", "line 4"),
        (b"True", b"T\x00ue", "line 4"),
        (b"True", b"T" * 5000, "line 4"),
        (b"ElementDataFile = LOCAL\n", b"", "line 9"),
        (b"ElementDataFile = LOCAL", b"ElementDataFile =", "no data file"),
    ],
)
def test_defects(old: bytes, new: bytes, reason: str) -> None:
    assert old in HEADER
    assert reason in meta_header_defect(HEADER.replace(old, new))


def test_no_header_at_all() -> None:
    assert meta_header_defect(b"")
    assert meta_header_defect(bytes(1000))
