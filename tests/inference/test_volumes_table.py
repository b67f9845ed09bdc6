import csv
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from unetr_nnunet.inference.volumes_table import COLUMNS, CaseTable, VolumesTable, organ_volumes

LABELS = {"liver": (6,), "spleen": (1,), "absent": (9,)}


def random_case(dtype: type = np.uint8, image_dtype: type = np.int16) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    mask = random.choice(np.array([0, 0, 0, 1, 6], dtype), (7, 20, 30))
    return mask, random.normal(50, 200, mask.shape).astype(image_dtype)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("image_dtype", [np.int16, np.float32])
def test_volumes_and_means_are_those_of_simpleitk(dtype: type, image_dtype: type) -> None:
    mask, image = random_case(dtype, image_dtype)
    spacing = (3.0, 0.5, 0.7)
    volumes = organ_volumes(mask, image, spacing, LABELS)
    label_image = sitk.GetImageFromArray(mask)
    label_image.SetSpacing(spacing[::-1])
    shapes, statistics = sitk.LabelShapeStatisticsImageFilter(), sitk.LabelIntensityStatisticsImageFilter()
    intensities = sitk.GetImageFromArray(image)
    intensities.CopyInformation(label_image)
    shapes.Execute(label_image)
    statistics.Execute(label_image, intensities)
    assert [entry["organ"] for entry in volumes] == list(LABELS)
    for entry in volumes[:2]:
        (label,) = LABELS[entry["organ"]]
        assert entry["ml"] == pytest.approx(shapes.GetPhysicalSize(label) / 1000)
        assert entry["mean_hu"] == pytest.approx(statistics.GetMean(label), abs=1e-3)
    assert volumes[2] == {"organ": "absent", "ml": 0, "mean_hu": None}


def test_the_largest_values_do_not_overflow() -> None:
    mask = np.full((40, 64, 64), 255, np.uint8)
    image = np.full(mask.shape, 32767, np.int16)
    assert organ_volumes(mask, image, (1, 1, 1), {"all": (255,)}) == [{"organ": "all", "ml": 163.84, "mean_hu": 32767}]


def test_a_region_has_all_of_its_integers() -> None:
    mask, image = random_case()
    whole, core = organ_volumes(mask, image, (1, 1, 1), {"whole": (1, 6, 9), "core": (6,)})
    assert whole["ml"] == pytest.approx(np.isin(mask, (1, 6)).sum() / 1000)
    assert whole["mean_hu"] == pytest.approx(image[np.isin(mask, (1, 6))].mean())
    assert core["ml"] == pytest.approx((mask == 6).sum() / 1000)


def test_no_copy_of_the_volume_is_made() -> None:
    mask = np.ones((200, 64, 64), np.uint8)
    image = np.zeros(mask.shape, np.int16)
    tracemalloc.start()
    organ_volumes(mask, image, (1, 1, 1), {"all": (1,)})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < mask.size, "less than one byte a voxel"


def test_another_grid_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the mask has shape \(1, 2, 3\), its image \(1, 2, 4\)"):
        organ_volumes(np.zeros((1, 2, 3), np.uint8), np.zeros((1, 2, 4), np.int16), (1, 1, 1), LABELS)


def entries(ml: float) -> list[dict[str, Any]]:
    return [{"organ": "liver", "ml": ml, "mean_hu": 61.237}, {"organ": "absent", "ml": 0.0, "mean_hu": None}]


def test_rows_of_each_case_sorted_by_name(tmp_path: Path) -> None:
    path = tmp_path / "out" / "volumes.csv"
    table = VolumesTable(path)
    assert not path.exists()
    table.replace("b, odd", entries(2), {})
    table.replace("a", entries(1), {})
    assert table.cases == {"a", "b, odd"}
    assert path.read_text().splitlines()[0] == ",".join(COLUMNS)
    found = rows(path)
    assert [row["case"] for row in found] == ["a", "a", "b, odd", "b, odd"]
    assert found[0] == {"case": "a", "organ": "liver", "ml": "1.000", "mean_hu": "61.24", "flags": ""}
    assert found[1] == {"case": "a", "organ": "absent", "ml": "0.000", "mean_hu": "", "flags": ""}
    assert [file.name for file in path.parent.iterdir()] == ["volumes.csv"]


def test_flags_stand_at_their_organ_and_those_of_the_case_at_each(tmp_path: Path) -> None:
    table = VolumesTable(tmp_path / "volumes.csv")
    table.replace("a", entries(1), {"liver": ["2 parts", "touches"], "(case)": ["mirrored"], "other": ["empty"]})
    assert [row["flags"] for row in rows(table.path)] == ["2 parts; touches; mirrored", "mirrored"]
    assert table.rows()[0] == ["a", "liver", "1.000", "61.24", "2 parts; touches; mirrored"]


def test_a_table_is_continued_and_rows_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "volumes.csv"
    first = VolumesTable(path)
    for case in ("a", "b"):
        first.replace(case, entries(1), {})
    before = path.read_text()
    second = VolumesTable(path)
    assert second.cases == {"a", "b"}
    second.replace("b", entries(1), {})
    assert path.read_text() == before, "an unchanged row stands as it was"
    second.replace("b", entries(5)[:1], {})
    assert [(row["case"], row["ml"]) for row in rows(path)] == [("a", "1.000"), ("a", "0.000"), ("b", "5.000")]


def test_a_table_of_an_older_version_is_continued(tmp_path: Path) -> None:
    """It has no column of flags."""
    path = tmp_path / "volumes.csv"
    path.write_text("case,organ,ml,mean_hu\na,liver,1.000,61.24\n")
    VolumesTable(path).replace("b", entries(1)[:1], {})
    assert [(row["case"], row["ml"], row["flags"]) for row in rows(path)] == [("a", "1.000", ""), ("b", "1.000", "")]


def test_rows_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "volumes.csv"
    table = VolumesTable(path)
    table.remove("a")
    assert not path.exists()
    for case in ("a", "b"):
        table.replace(case, entries(1), {})
    table.remove("a")
    assert {row["case"] for row in rows(path)} == {"b"}


def test_several_threads_write(tmp_path: Path) -> None:
    """A rename of an older table after a newer one's would lose rows."""
    path, names = tmp_path / "volumes.csv", [f"case{number}" for number in range(40)]
    table = VolumesTable(path)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: table.replace(name, entries(1), {}), names))
    assert {row["case"] for row in rows(path)} == set(names)


@pytest.mark.parametrize(
    "content", [b"", b"name;value\n", b"case,organ,ml,mean_hu,flags\na,liver\n", b"\xff\xfe\x00case"]
)
def test_another_file_is_not_overwritten(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "volumes.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"volumes.csv is no table"):
        VolumesTable(path)
    assert path.read_bytes() == content


def test_threads_that_forget_cases_elsewhere_do_not_bring_them_back(tmp_path, monkeypatch):
    """One thread writes a case while another notes that one has failed; both rewrite an earlier run's table."""
    earlier = VolumesTable(tmp_path / "volumes.csv")
    cases = [f"case{number}" for number in range(8)]
    for case in [*cases, "other"]:
        earlier.replace_rows(case, [("liver", "1.000", "", "")])
    write = VolumesTable._write
    monkeypatch.setattr(CaseTable, "_write", lambda table: (time.sleep(0.02), write(table)))
    part = VolumesTable(tmp_path / "volumes_part1of2.csv")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(part.forget_elsewhere, cases))
    assert VolumesTable(tmp_path / "volumes.csv").cases == {"other"}
