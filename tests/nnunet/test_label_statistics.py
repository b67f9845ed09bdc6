from pathlib import Path

import numpy as np
import pytest

from tests.nnunet.organ_values import learnt, organ
from unetr_nnunet.nnunet.label_statistics import FILE, read_statistics, write_statistics


def test_limits_of_volumes_are_positive_whatever_they_are() -> None:
    volumes = np.geomspace(1, 1000, 10)
    low, _ = learnt([{"bowel": organ(volume_ml=float(volume))} for volume in volumes]).limits("bowel", "volume_ml") or (
        0,
        0,
    )
    assert 0 < low < 1


def test_nothing_is_learnt_from_few_cases() -> None:
    statistics = learnt([{"liver": organ(place_mm=(0, 0, 0)), "spleen": organ(place_mm=(50, 0, 0))} for _ in range(7)])
    assert statistics.limits("liver", "volume_ml") is None
    assert not statistics.expects("liver")
    assert not statistics.is_cut_off("liver", organ(border_mm=0))
    assert statistics.order == ()


def test_no_hu_where_images_are_no_cts() -> None:
    statistics = learnt([{"liver": organ(mean_hu=None)} for _ in range(12)])
    assert statistics.limits("liver", "mean_hu") is None
    assert statistics.limits("liver", "volume_ml") is not None


def test_the_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    assert read_statistics(tmp_path / FILE) is None
    statistics = learnt([{"liver": organ(place_mm=(0, 0, 0)), "spleen": organ(place_mm=(50, 0, 0))} for _ in range(9)])
    write_statistics(statistics, tmp_path / FILE)
    assert read_statistics(tmp_path / FILE) == statistics
    (tmp_path / FILE).write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        read_statistics(tmp_path / FILE)


def test_no_cases_at_all() -> None:
    statistics = learnt([])
    assert statistics.organs == {}
    assert not statistics.expects("liver")
