from pathlib import Path

import numpy as np

from tests.report.studies import SIZE, model, random_model, with_masks, write_volume
from unetr_nnunet.report.models import gather
from unetr_nnunet.report.worst_cases import context, find_image, ranked_cases, weakest_organs, worst_cases


def test_cases_are_ranked_over_all_models() -> None:
    one = model("a", {"liver": {"x": 0.2, "y": 0.5, "z": 0.9}})
    two = model("b", {"liver": {"x": 0.8, "y": 0.3}})
    assert ranked_cases(gather([one, two])) == [("y", 0.4), ("x", 0.5), ("z", 0.9)]


def test_pictures_of_every_model(tmp_path: Path) -> None:
    models = [with_masks(name, tmp_path, (5, 14, 30)) for name in ("A", "B")]
    write_volume(tmp_path / "images" / "case_0001_0000.nii.gz", np.zeros(SIZE, np.int16))
    write_volume(tmp_path / "images" / "case_0001_0001.nii.gz", np.zeros((1, 2, 3), np.int16))
    content = context(gather(models), tmp_path / "images", 5)
    (case,) = content["cases"]
    assert case.problems == []
    assert [panel is not None for each in case.slices for panel in each.panels.values()] == [True] * 4
    assert case.models[0][2][0] == ("spleen", 0.5)
    assert f"unetr_nnunet view {tmp_path / 'images'} --masks" in content["view"]
    assert content["view"].endswith(f"--labels {tmp_path / 'labels'}")


def test_without_masks_or_images_the_figures_stand(tmp_path: Path) -> None:
    (case,) = worst_cases(gather([random_model("A", 1)]), None, 5)
    assert case.slices == []
    assert "masks of this case are not at hand" in case.problems[0]
    study = gather([with_masks("A", tmp_path, (5, 14, 30))])
    assert worst_cases(study, None, 5)[0].problems == []
    assert worst_cases(study, None, 0) == []
    study.models[0].labels["case_0001"].write_bytes(b"broken")
    assert "no picture: " in worst_cases(study, None, 5)[0].problems[0]


def test_images_are_found_by_name_or_btcv_s_number() -> None:
    names = ("BTCV_0061", "BTCV_0062", "img0062", "case", "smith_2019")
    files = dict(zip(names, map(Path, "abcde"), strict=True))
    assert find_image("label0061", Path("label0061.nii.gz"), files) == Path("a")
    assert find_image("label0062", Path("label0062.nii.gz"), files) is None, "two could be meant"
    assert find_image("x", Path("case.nii.gz"), files) == Path("d")
    assert find_image("jones_2019", Path("jones_2019.nii.gz"), files) is None


def test_weakest_organs() -> None:
    reported = gather([model("A", {"liver": {"a": 0.9}, "aorta": {"a": 0.1}, "spleen": {"a": float("nan")}})])
    assert weakest_organs(reported, reported.models[0], "a") == [("aorta", 0.1), ("liver", 0.9)]
