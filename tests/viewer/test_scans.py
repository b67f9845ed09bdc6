import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from unetr_nnunet.images.cases import find_cases
from unetr_nnunet.images.read import read_case
from unetr_nnunet.organs import ORGANS
from unetr_nnunet.viewer.confinement import GivenPaths
from unetr_nnunet.viewer.scans import Scan, ViewedScans, make_layers


def write_mask(path: Path, label: int = 6) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(np.full((2, 3, 4), label, np.uint8)), str(path))
    return path


def test_masks_join_their_cts_by_name_or_by_four_digits(tmp_path: Path) -> None:
    for name in ("BTCV_0061", "label0062", "label0099", "x_0063", "y_0063"):
        write_mask(tmp_path / "masks" / f"{name}.nii.gz")
    (layer,) = make_layers([tmp_path / "masks"], None, ["BTCV_0061", "BTCV_0062", "BTCV_0063", "ct"])
    assert {case: path.name for case, path in layer.masks.items()} == {
        "BTCV_0061": "BTCV_0061.nii.gz",
        "BTCV_0062": "label0062.nii.gz",
    }
    assert layer.unused == ("label0099", "x_0063", "y_0063")
    assert not layer.is_truth


def test_a_mask_may_be_called_exactly_like_its_ct(tmp_path: Path) -> None:
    for name in ("liver_1_0000", "liver_2_0000", "liver_2", "other_0000"):
        write_mask(tmp_path / "masks" / f"{name}.nii.gz")
    (layer,) = make_layers([tmp_path / "masks"], None, ["liver_1", "liver_2"])
    assert {case: path.name for case, path in layer.masks.items()} == {
        "liver_1": "liver_1_0000.nii.gz",
        "liver_2": "liver_2.nii.gz",
    }
    assert layer.unused == ("liver_2_0000", "other_0000")


def test_the_truth_comes_first_and_titles_tell_folders_apart(tmp_path: Path) -> None:
    for folder in ("a/fold_0/validation", "b/fold_0/validation", "labels"):
        write_mask(tmp_path / folder / "case.nii.gz")
    masks = [tmp_path / name / "fold_0" / "validation" for name in "ab"]
    layers = make_layers(masks, tmp_path / "labels", ["case"])
    assert [layer.title for layer in layers] == ["truth", "a/fold_0/validation", "b/fold_0/validation"]
    assert [layer.is_truth for layer in layers] == [True, False, False]
    twice = make_layers([masks[0], masks[0]], None, ["case"])
    assert len({layer.title for layer in twice}) == 2


def test_a_file_will_do_for_one_ct_only(tmp_path: Path) -> None:
    mask = write_mask(tmp_path / "any_name.nii.gz")
    (layer,) = make_layers([mask], None, ["ct"])
    assert layer.masks == {"ct": mask}
    with pytest.raises(ValueError, match="one file for 2 CTs"):
        make_layers([mask], None, ["ct", "ct2"])
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ValueError, match="not a label map"):
        make_layers([tmp_path / "notes.txt"], None, ["ct"])


def test_wrong_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a folder"):
        make_layers([tmp_path / "none"], None, ["ct"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no label map"):
        make_layers([], tmp_path / "empty", ["ct"])


@pytest.fixture
def study(tmp_path: Path) -> ViewedScans:
    ct = sitk.GetImageFromArray(np.full((2, 3, 4), 50, np.int16))
    write_mask(tmp_path / "masks" / "a.nii.gz")
    write_mask(tmp_path / "masks" / "b.nii.gz")
    (tmp_path / "masks" / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "<b>x</b>": 6}}))
    (tmp_path / "ct.nii.gz").touch()
    scans = [Scan(name, (tmp_path / "ct.nii.gz",), lambda: ct) for name in "abc"]
    return ViewedScans(scans, make_layers([tmp_path / "masks"], None, ["a", "b", "c"]), GivenPaths([tmp_path]))


def test_contents_name_cases_layers_labels_and_colours(study: ViewedScans, tmp_path: Path) -> None:
    contents = study.contents()
    assert contents["cases"] == [
        {"name": "a", "layers": [0]},
        {"name": "b", "layers": [0]},
        {"name": "c", "layers": []},
    ]
    (layer,) = contents["layers"]
    named = {entry["label"]: entry for entry in layer["labels"]}
    assert named[6]["name"] == "<b>x</b>"
    assert named[7]["name"] == "label 7"
    assert sorted(named) == list(range(1, 256))
    json.dumps(contents)
    write_mask(tmp_path / "btcv" / "a.nii.gz")
    btcv = ViewedScans(study.scans, make_layers([tmp_path / "btcv"], None, ["a"]), GivenPaths([tmp_path])).contents()
    for organ in ORGANS:
        entry = btcv["layers"][0]["labels"][organ.id - 1]
        assert (entry["name"], tuple(entry["colour"])) == (organ.name.replace("_", " "), organ.colour)


def test_volumes_by_number(study: ViewedScans) -> None:
    assert np.all(np.asarray(nibabel.Nifti1Image.from_bytes(study.ct(1)).dataobj) == 50)
    content, word = study.mask(1, 0)
    assert word == ""
    assert np.all(np.asarray(nibabel.Nifti1Image.from_bytes(content).dataobj) == 6)
    assert nibabel.Nifti1Image.from_bytes(study.mask(1, 0, thinned=True)[0]).shape == (2, 2, 1)
    for case, layer in ((3, 0), (0, 1), (2, 0)):
        with pytest.raises(LookupError):
            study.mask(case, layer)
    with pytest.raises(LookupError):
        study.ct(3)


def test_a_file_that_becomes_a_link_later_is_refused(study: ViewedScans, tmp_path: Path) -> None:
    study.mask(0, 0)
    outside = tmp_path.parent / f"{tmp_path.name}_outside.nii.gz"
    write_mask(outside)
    for name in ("ct.nii.gz", "masks/a.nii.gz"):
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to(outside)
    with pytest.raises(ValueError, match="outside of the given folders"):
        study.mask(0, 0)
    with pytest.raises(ValueError, match="outside of the given folders"):
        study.ct(1)


def test_an_nrrd_with_bare_carriage_returns_serves_no_file_outside(tmp_path: Path) -> None:
    """SimpleITK takes a bare carriage return for the end of a line."""
    given, outside = tmp_path / "given", tmp_path / "outside"
    write_mask(given / "ct.nhdr", 50)
    outside.mkdir()
    (given / "ct.raw").rename(outside / "secret.raw")
    header = (given / "ct.nhdr").read_bytes().replace(b"ct.raw", b"../outside/secret.raw")
    (given / "ct.nhdr").write_bytes(header.replace(b"\n", b"\r"))
    (case,) = find_cases(given, 1)[0]
    viewed = ViewedScans([Scan("ct", case.channels[0], lambda: read_case(case)[0])], [], GivenPaths([given]))
    with pytest.raises(ValueError, match="outside of its own folder"):
        viewed.ct(0)
    with pytest.raises(ValueError, match="outside of its own folder"):
        read_case(case)
