import json
from pathlib import Path

import pytest
from nnunetv2.utilities.crossval_split import generate_crossval_split

from unetr_nnunet.nnunet.splits import FILE_NAME, read_splits


def test_the_folds_that_nnunet_draws(tmp_path: Path) -> None:
    drawn = generate_crossval_split([f"case_{number}" for number in range(7)], seed=12345, n_splits=5)
    (tmp_path / FILE_NAME).write_text(json.dumps(drawn))
    folds = read_splits(tmp_path / FILE_NAME)
    assert [{"train": list(fold.train), "val": list(fold.val)} for fold in folds] == drawn


@pytest.mark.parametrize("text", ["[", "{}", '[{"train": ["a"]}]', '[{"train": "a", "val": ["b"]}]', "[1]"])
def test_what_is_no_list_of_folds(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(ValueError, match=r"splits_final\.json is damaged: .*; write a list of folds"):
        read_splits(tmp_path / FILE_NAME)
