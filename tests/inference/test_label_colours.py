from pathlib import Path

from unetr_nnunet.inference.label_colours import (
    ITKSNAP_FILE,
    SLICER_FILE,
    write_label_tables,
)
from unetr_nnunet.organs import ORGANS

LIVER = ORGANS[5]


def test_itksnap_reads_numbers_colours_and_names(tmp_path: Path) -> None:
    write_label_tables(tmp_path, {"liver": 300, 'odd "name" of  two': 2})
    rows = {}
    for line in (tmp_path / ITKSNAP_FILE).read_text().splitlines():
        if line.startswith("#") or not line:  # ITK-SNAP: seven numbers, then what is between the quotation marks
            continue
        before, name, after = line.split('"')
        assert not after
        index, red, green, blue, alpha, visible, mesh = map(float, before.split())
        rows[int(index)] = (red, green, blue, alpha, visible, mesh, name)
    assert rows[0] == (0, 0, 0, 0, 0, 0, "Clear Label")
    assert rows[300] == (*LIVER.colour, 1, 1, 1, "liver")
    assert rows[2][3:] == (1, 1, 1, "odd 'name' of two")
    assert list(rows) == [0, 2, 300]


def test_slicer_reads_numbers_colours_and_names(tmp_path: Path) -> None:
    write_label_tables(tmp_path, {"liver": 300, "two words": 2})
    lines = (tmp_path / SLICER_FILE).read_text().splitlines()
    rows = [line.split() for line in lines if not line.startswith("#")]
    assert [row[:2] for row in rows] == [["0", "Background"], ["2", "two_words"], ["300", "liver"]]
    assert all(len(row) == 6 for row in rows)
    assert rows[0][2:] == ["0", "0", "0", "0"]
    assert tuple(map(int, rows[2][2:])) == (*LIVER.colour, 255)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([ITKSNAP_FILE, SLICER_FILE])
