import importlib
import inspect
import pkgutil

import nnunetv2.training.nnUNetTrainer as folder
import pytest
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from unetr_nnunet.nnunet import stock_trainers
from unetr_nnunet.nnunet.stock_trainers import builds_from_plans


def test_every_trainer_of_nnunet_is_told_as_its_own_look_up_has_it():
    names = {
        name
        for module in pkgutil.walk_packages(folder.__path__, f"{folder.__name__}.")
        for name, found in inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
        if issubclass(found, nnUNetTrainer)
    }
    found = {name: recursive_find_trainer_class_by_name(name) for name in names}
    stock = nnUNetTrainer.build_network_architecture
    own = {name for name, trainer in found.items() if trainer.build_network_architecture is not stock}
    asked = {name for name in names if not builds_from_plans(name)}
    assert {"nnUNetTrainerBN", "nnUNet_Primus_M_Trainer"} <= own <= asked
    assert asked - own == {"nnUNet_Trainer_BS8"}  # stands beside others that have a network of their own


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("class Mine(nnUNetTrainer):\n    pass", True),
        ("class Mine(nnUNetTrainer):\n    build_network_architecture = None", False),
        ("class Mine(nnUNetTrainer, Mixin):\n    pass", False),
        ("class Mine(Other):\n    pass\nclass Other(nnUNetTrainer):\n    pass", True),
        ("class Mine:\n    pass", False),
        ("class Mine(nnUNetTrainer):\n    pass\nif True:\n    class Mine(nnUNetTrainer):\n        pass", False),
        ("Mine = object", False),
    ],
)
def test_a_trainer_put_into_nnunets_folder(text, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(stock_trainers.nnunetv2, "__path__", [str(tmp_path)])
    (tmp_path / "training/nnUNetTrainer").mkdir(parents=True)
    (tmp_path / "training/nnUNetTrainer/mine.py").write_text(text, encoding="utf-8")
    assert builds_from_plans("Mine") is expected
