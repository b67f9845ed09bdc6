from pathlib import Path

import pydicom
import pytest

from tests.images.scans import write_series
from unetr_nnunet.images.cases import Case, find_cases, volume_ending


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def files_by_name(cases: list[Case]) -> dict[str, list[list[str]]]:
    return {case.name: [[path.name for path in paths] for paths in case.channels] for case in cases}


def numbered(number: int):
    def edit(_: int, dataset: pydicom.Dataset) -> None:
        dataset.SeriesNumber = number

    return edit


def test_any_name_and_every_ending(tmp_path: Path) -> None:
    touch(tmp_path, "b.nii.gz", "a.nii", "c d.nrrd", "e.nhdr", "f.v2.mha", "g.mhd", "H.NII.GZ", "img_0061.nii.gz")
    touch(tmp_path, ".hidden.nii.gz", "._b.nii.gz", "e.raw", "g.zraw", "dataset.json")
    cases, words = find_cases(tmp_path, 1)
    assert [case.name for case in cases] == ["H", "a", "b", "c d", "e", "f.v2", "g", "img_0061"]
    assert cases[1] == Case("a", ((tmp_path / "a.nii",),), False)
    assert words == []


def test_nnunet_s_channel_is_no_part_of_the_name(tmp_path: Path) -> None:
    touch(tmp_path, "case_0000.nii.gz", "other_0000.nrrd")
    assert files_by_name(find_cases(tmp_path, 1)[0]) == {"case": [["case_0000.nii.gz"]], "other": [["other_0000.nrrd"]]}


@pytest.mark.parametrize("neighbour", ["img_0001.nii.gz", "img.nii.gz"])
def test_digits_that_tell_cases_apart_stay(tmp_path: Path, neighbour: str) -> None:
    touch(tmp_path, "img_0000.nii.gz", neighbour)
    for source in (tmp_path, tmp_path / "img_0000.nii.gz"):
        assert "img_0000" in files_by_name(find_cases(source, 1)[0])
    assert files_by_name(find_cases(tmp_path, 1)[0]).keys() == {"img_0000", neighbour.removesuffix(".nii.gz")}


def test_one_stem_twice_gives_two_names_and_a_word(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii", "a.nii.gz", "a_nii.mha")
    cases, words = find_cases(tmp_path, 1)
    assert len({case.name for case in cases}) == 3
    assert files_by_name(cases)["a_nii_gz"] == [["a.nii.gz"]]
    assert any("a.nii.gz" in word and "a_nii_gz" in word for word in words)


def test_several_channels(tmp_path: Path) -> None:
    touch(tmp_path, "x_0000.nii.gz", "x_0001.nii", "y_0000.nii.gz", "z_0001.mha", "plain.nii.gz", "x_0002.nii.gz")
    cases, words = find_cases(tmp_path, 2)
    assert files_by_name(cases) == {
        "x": [["x_0000.nii.gz"], ["x_0001.nii"]],
        "y": [["y_0000.nii.gz"], []],
        "z": [[], ["z_0001.mha"]],
        "plain": [["plain.nii.gz"], []],
    }
    assert len(words) == 1
    assert "x_0002.nii.gz: not used, the model has 2 channels" in words[0]


def test_a_channel_with_two_files_is_kept_to_be_refused(tmp_path: Path) -> None:
    touch(tmp_path, "x_0000.nii.gz", "x_0000.nii", "x_0001.nii.gz")
    assert files_by_name(find_cases(tmp_path, 2)[0]) == {"x": [["x_0000.nii", "x_0000.nii.gz"], ["x_0001.nii.gz"]]}


def test_a_single_file_brings_its_other_channels(tmp_path: Path) -> None:
    touch(tmp_path, "x_0000.nii.gz", "x_0001.nii.gz", "y_0000.nii.gz")
    cases, words = find_cases(tmp_path / "x_0001.nii.gz", 2)
    assert files_by_name(cases) == {"x": [["x_0000.nii.gz"], ["x_0001.nii.gz"]]}
    assert words == []


def test_a_single_file(tmp_path: Path) -> None:
    touch(tmp_path, "scan.nii.gz", "other.nii.gz", ".hidden.nii.gz")
    assert files_by_name(find_cases(tmp_path / "scan.nii.gz", 1)[0]) == {"scan": [["scan.nii.gz"]]}
    assert len(find_cases(tmp_path / ".hidden.nii.gz", 1)[0]) == 1


def test_dicom_series_are_named_after_their_folders(tmp_path: Path) -> None:
    for folder in ("anna/ct", "berta", "carla/ct"):
        write_series(tmp_path / folder)
    cases, words = find_cases(tmp_path, 1, "CT")
    assert [case.name for case in cases] == ["anna_ct", "berta", "carla_ct"]
    assert all(case.is_dicom and len(case.channels[0]) == 6 for case in cases)
    assert words == []


def test_a_series_folder_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_series(tmp_path / "anna")
    expected = [Case("anna", (tuple(files),), True)]
    assert find_cases(tmp_path / "anna", 1, "CT")[0] == expected
    assert find_cases(files[3], 1, "CT")[0] == expected
    monkeypatch.chdir(tmp_path / "anna")
    assert [case.name for case in find_cases(Path(), 1, "CT")[0]] == ["anna"]


def test_several_series_in_a_folder(tmp_path: Path) -> None:
    for number in (2, 11):
        for path in write_series(tmp_path / str(number), numbered(number)):
            path.rename(tmp_path / f"{number}_{path.name}")
    cases, _ = find_cases(tmp_path, 1)
    assert [case.name for case in cases] == [f"{tmp_path.name}_11", f"{tmp_path.name}_2"]
    assert [len(case.channels[0]) for case in cases] == [6, 6]


def test_series_of_one_number_are_told_apart_by_their_uid(tmp_path: Path) -> None:
    for uid in ("1.2.3.11", "1.2.3.12"):
        for path in write_series(tmp_path / uid, uid=uid):
            path.rename(tmp_path / f"{uid}_{path.name}")
    names = [case.name for case in find_cases(tmp_path, 1)[0]]
    assert names == [f"{tmp_path.name}_12311", f"{tmp_path.name}_12312"]


def test_a_header_cannot_lead_out_of_the_output_folder(tmp_path: Path) -> None:
    sound, bad = b"1.2.3.4.5.678.1234567", b"1/../../pwn/%c12345678"
    for name in (b"a", b"b"):
        for path in write_series(tmp_path / name.decode(), uid=sound.decode()):
            content = path.read_bytes().replace(sound, bad % name)
            (tmp_path / f"{name.decode()}_{path.name}").write_bytes(content)
            path.unlink()
    cases, _ = find_cases(tmp_path, 1)
    assert [case.name for case in cases] == [f"{tmp_path.name}_1_.._.._pwn_{name}12345678" for name in "ab"]


def test_names_stay_unique_across_kinds(tmp_path: Path) -> None:
    write_series(tmp_path / "anna")
    touch(tmp_path, "anna.nii.gz", f"{tmp_path.name}_anna.nrrd")
    cases, words = find_cases(tmp_path, 1)
    assert len({case.name for case in cases}) == 3
    assert any("anna.nii.gz" in word for word in words)


def test_a_series_is_one_channel_only(tmp_path: Path) -> None:
    files = write_series(tmp_path / "anna")
    assert find_cases(tmp_path / "anna", 2)[0][0].channels == (tuple(files), ())


def test_skipped_series_are_said_and_volumes_stay(tmp_path: Path) -> None:
    write_series(tmp_path / "mr", lambda _, dataset: setattr(dataset, "Modality", "MR"))
    touch(tmp_path, "a.nii.gz")
    cases, words = find_cases(tmp_path, 1, "CT")
    assert [case.name for case in cases] == ["a"]
    assert words == [f"{tmp_path / 'mr'}: series 3 skipped (6 files): modality MR, the model is for CT"]
    assert len(find_cases(tmp_path, 1)[0]) == 2


def test_nothing_to_predict(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        find_cases(tmp_path / "nowhere", 1)
    with pytest.raises(ValueError, match=r"holds no image; volume files \(\.nii\.gz, .* and DICOM series are"):
        find_cases(tmp_path, 1)
    touch(tmp_path, "notes.txt", "sub/a.nii.gz", "sub/b.nii.gz")
    with pytest.raises(ValueError, match=r"no image \(.*sub holds 2 volume file\(s\), not searched"):
        find_cases(tmp_path, 1)
    with pytest.raises(ValueError, match=r"notes\.txt holds no image"):
        find_cases(tmp_path / "notes.txt", 1)
    files = write_series(tmp_path / "mr", lambda _, dataset: setattr(dataset, "Modality", "MR"))
    with pytest.raises(ValueError, match="modality MR, the model is for CT"):
        find_cases(files[0], 1, "CT")


def test_volume_endings() -> None:
    assert volume_ending(Path("a.b.NII.gz")) == ".NII.gz"
    assert volume_ending(Path("a.nii.gz.txt")) == ""


def test_the_real_folder(real_ct: Path) -> None:
    cases, words = find_cases(real_ct / "upper_abdomen_slab", 1, "CT")
    assert [case.name for case in cases] == ["dicom", "label"]
    assert len(cases[0].channels[0]) == 20
    assert words == []
    positions = [float(pydicom.dcmread(path).ImagePositionPatient[2]) for path in cases[0].channels[0]]
    assert positions == sorted(positions)


def test_links(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    image = tmp_path / "scan.nii.gz"
    image.touch()
    (tmp_path / "in" / "linked.nii.gz").symlink_to(image)
    (tmp_path / "in" / "gone.nii.gz").symlink_to(tmp_path / "nothing.nii.gz")
    assert files_by_name(find_cases(tmp_path / "in", 1)[0]) == {
        "gone": [["gone.nii.gz"]],  # reading it tells
        "linked": [["linked.nii.gz"]],
    }
