import zipfile

import pytest

from unetr_nnunet.dataset_conversion.source_files import SourceFile, open_source


@pytest.fixture
def folder(tmp_path):
    for name in ("a/img0001.nii.gz", "a/notes.txt", "a/._img0001.nii.gz", "__MACOSX/a/img0001.nii.gz", "b/x.nii"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(name.encode())
    return tmp_path / "data"


def zipped(folder):
    path = folder.parent / "data.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir("empty")
        for file in folder.rglob("*.*"):
            archive.write(file, file.relative_to(folder))
    return path


@pytest.mark.parametrize("as_zip", [False, True])
def test_lists_and_opens_nifti_files_only(as_zip, folder):
    with open_source(zipped(folder) if as_zip else folder) as files:
        assert [file.name for file in files] == ["a/img0001.nii.gz", "b/x.nii"]
        assert files[0].size_bytes == len("a/img0001.nii.gz")
        with files[0].open() as stream:
            assert stream.read() == b"a/img0001.nii.gz"


@pytest.mark.parametrize("as_zip", [False, True])
def test_a_changed_file_has_another_stamp(as_zip, folder):
    stamps = []
    for content in (b"1", b"2"):
        (folder / "b/x.nii").write_bytes(content)
        with open_source(zipped(folder) if as_zip else folder) as files:
            stamps.append(files[1].stamp)
    assert stamps[0] != stamps[1]


def test_a_file_that_is_made(folder):
    file = SourceFile("a.csv", 1, 1, made=lambda: b"content")
    assert file.is_gzipped
    with file.open() as stream:
        assert stream.read() == b"content"


def test_encrypted_archive(folder):
    path = zipped(folder)
    data = bytearray(path.read_bytes())
    for signature, flags_at in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        start = data.find(signature)
        while start >= 0:
            data[start + flags_at] |= 1
            start = data.find(signature, start + 1)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="encrypted"), open_source(path):
        pass


def test_neither_folder_nor_zip(folder):
    with pytest.raises(ValueError, match="not a complete zip"), open_source(folder / "b/x.nii"):
        pass


@pytest.mark.parametrize("as_zip", [False, True])
def test_named_tables_are_listed_too_and_read_as_text(as_zip, folder):
    (folder / "meta.csv").write_text("image_id;split\n", encoding="utf-8-sig")
    with open_source(zipped(folder) if as_zip else folder, ("meta.csv",)) as files:
        tables = [file for file in files if file.name == "meta.csv"]
        assert len(files) == 3
        assert tables[0].read_text() == "image_id;split\n"


def test_a_table_that_is_no_text(folder):
    (folder / "meta.csv").write_bytes(b"\xff\xfe\x00")
    with (
        open_source(folder, ("meta.csv",)) as files,
        pytest.raises(ValueError, match=r"meta\.csv cannot be read .*again"),
    ):
        next(file for file in files if file.name == "meta.csv").read_text()
