from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from unetr_nnunet.nnunet.json_file import read_if_whole, read_json


@dataclass(frozen=True)
class Inner:
    number: int


KIND = TypeAdapter(dict[str, list[Inner]])


def test_typed_objects(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text('{"a": [{"number": 1, "more": 2}]}')
    assert read_json(path, KIND, "-") == {"a": [Inner(1)]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "is damaged: Invalid JSON: .*"),
        (b"\xff", "is damaged: Invalid JSON: .*"),
        (b'{"a": [{"number": 1}, {"number": true}]}', r"is damaged: a\.1\.number: Input should be a valid integer"),
        (b'{"a": [{}]}', r"is damaged: a\.0\.number: Field required"),
        (None, r"cannot be read: .* No such file .*"),
    ],
)
def test_one_line_says_what_is_wrong(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "file.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^\S*file\.json {reason}; make it again$"):
        read_json(path, KIND, "make it again")


def test_files_that_a_kill_has_left(tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole.json", tmp_path / "torn.json"
    whole.write_text('{"a": 1}')
    torn.write_text('{"a": ')
    assert read_if_whole(whole) == {"a": 1}
    assert (
        read_if_whole(torn) is read_if_whole(tmp_path / "none.json") is read_if_whole(whole / "in_a_file.json") is None
    )
