import shutil

from tests.inference.small_model import write_model
from unetr_nnunet.inference.model import load_model
from unetr_nnunet.inference.models_mark import models_mark


def test_what_makes_a_difference(tmp_path):
    folder, other = write_model(tmp_path / "a", folds=2), write_model(tmp_path / "b", seed=7)
    shutil.copytree(folder, tmp_path / "copy")
    both, copy = load_model(folder, None), load_model(tmp_path / "copy", [1, 0])
    first, second = load_model(folder, [0]), load_model(other, None)
    mark = models_mark([both])
    assert mark == models_mark([copy])
    assert models_mark([both, second]) == models_mark([second, both])
    others = [models_mark([first]), models_mark([second]), models_mark([both, second]), models_mark([both], (1, 2))]
    assert len({mark, *others}) == 5
