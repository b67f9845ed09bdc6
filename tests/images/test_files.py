import os
from pathlib import Path

import pytest

from unetr_nnunet.images.files import (
    find_label_files,
    hash_file,
    in_utf8,
    pair_cases,
    pair_names,
    refuse_unreadable,
    stem,
    volume_ending,
    volume_files,
)


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_pairs_by_stem_whatever_the_ending_and_ignores_other_files(tmp_path: Path) -> None:
    left = touch(tmp_path / "a", "x.nii.gz", "y.nrrd", "only_left.mha", "dataset.json", "._x.nii.gz", "x.npz")
    right = touch(tmp_path / "b", "x.mha", "y.nii", "only_right.nii.gz")
    pairing = pair_cases(left, right)
    assert pairing.pairs == {"x": (left / "x.nii.gz", right / "x.mha"), "y": (left / "y.nrrd", right / "y.nii")}
    assert (pairing.without_prediction, pairing.without_label) == (["only_right"], ["only_left"])
    assert not pairing.ambiguous


def test_btcv_s_own_names_pair_by_their_number(tmp_path: Path) -> None:
    left = touch(tmp_path / "a", "BTCV_0061.nii.gz", "BTCV_0062.nii.gz", "BTCV_10063.nii.gz", "img0064.nii.gz")
    right = touch(tmp_path / "b", "label0061.nii.gz", "BTCV_0062.nii.gz", "label0062.nii.gz", "label0063.nii.gz")
    touch(right, "LABEL0064.mha")
    pairing = pair_cases(left, right)
    assert {case: label.name for case, (_, label) in pairing.pairs.items()} == {
        "BTCV_0061": "label0061.nii.gz",
        "BTCV_0062": "BTCV_0062.nii.gz",
        "img0064": "LABEL0064.mha",
    }
    assert pairing.without_prediction == ["label0062", "label0063"]
    assert pairing.without_label == ["BTCV_10063"]


def test_the_digits_of_other_names_pair_nobody(tmp_path: Path) -> None:
    left = touch(tmp_path / "a", "smith_2019.nii.gz", "scan_0007.nii.gz", "same.nii.gz", "0061.nii.gz")
    right = touch(tmp_path / "b", "jones_2019.nii.gz", "label0007.nii.gz", "same.nii.gz", "label0061.nii.gz")
    pairing = pair_cases(left, right)
    assert list(pairing.pairs) == ["same"]
    assert (pairing.without_prediction, pairing.ambiguous) == (["jones_2019", "label0007", "label0061"], {})
    (left / "same.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"no case is in both folders: .*; give both files of a case the same name"):
        pair_cases(left, right)


def test_ambiguous_names_are_refused_alone(tmp_path: Path) -> None:
    left = touch(tmp_path / "a", "BTCV_0001.nii.gz", "img0001.nii.gz", "z.nii.gz", "z.nrrd", "0001.nrrd")
    right = touch(tmp_path / "b", "label0001.nii.gz", "z.nii.gz", "0001.nrrd")
    pairing = pair_cases(left, right)
    assert list(pairing.pairs) == ["0001"]
    assert sorted(pairing.ambiguous) == ["*0001", "z"]
    assert "BTCV_0001.nii.gz, img0001.nii.gz, label0001.nii.gz" in pairing.ambiguous["*0001"]


def test_names_of_images_pair_one_to_one() -> None:
    cases = ["liver_1", "liver_2", "BTCV_0061", "BTCV_0062", "img0063", "BTCV_0063", "x_2019"]
    stems = ["liver_1_0000", "liver_2_0000", "liver_2", "label0061", "img0062", "label0062", "label0063", "y_2019"]
    assert pair_names(cases, stems) == {
        "liver_1": "liver_1_0000",
        "liver_2": "liver_2",
        "BTCV_0061": "label0061",
    }


def test_endings_and_stems() -> None:
    assert volume_ending(Path("a.b.NII.gz")) == ".NII.gz"
    assert volume_ending(Path("a.nii.gz.txt")) == ""
    assert [stem(Path(name)) for name in ("a.b.NII.gz", "c.mhd", "d.png", "e")] == ["a.b", "c", "d", "e"]
    assert stem(Path(os.fsdecode(b"f\xfcr.nii.gz"))) == in_utf8(os.fsdecode(b"f\xfcr")) == "f\\udcfcr"


def test_files_of_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, "b.nii.gz", "a.MHA", ".hidden.nii", "x.txt", "x.raw")
    (tmp_path / "folder.nii").mkdir()
    (tmp_path / "c.nrrd").symlink_to(tmp_path / "nothing.nrrd")
    assert [path.name for path in volume_files(tmp_path)] == ["a.MHA", "b.nii.gz", "c.nrrd"]
    refuse_unreadable(tmp_path / "b.nii.gz")
    with pytest.raises(ValueError, match=r"c\.nrrd is no file, or a link to none"):
        refuse_unreadable(tmp_path / "c.nrrd")
    with pytest.raises(ValueError, match=r"f\\udcfcr.nii has a name that is not UTF-8: rename"):
        refuse_unreadable(tmp_path / os.fsdecode(b"f\xfcr.nii"))


def test_a_hash_is_sha256sum_s(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert hash_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180


def test_refuses_folders_with_nothing_to_compare(tmp_path: Path) -> None:
    full, other = touch(tmp_path / "full", "a.nii.gz"), touch(tmp_path / "other", "b.nii.gz")
    empty = touch(tmp_path / "empty", "notes.txt")
    with pytest.raises(ValueError, match=r"empty holds no label map \(\.nii\.gz"):
        find_label_files(empty)
    with pytest.raises(ValueError, match="is not a folder"):
        pair_cases(full, tmp_path / "nowhere")
    with pytest.raises(ValueError, match="same folder"):
        pair_cases(full, tmp_path / "other" / ".." / "full")
    with pytest.raises(ValueError, match="no case is in both"):
        pair_cases(full, other)
