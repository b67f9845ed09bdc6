import pickle
import subprocess
import sys

import pytest

from unetr_nnunet.trainers import factory
from unetr_nnunet.trainers.factory import trainer_class
from unetr_nnunet.trainers.unetr_trainer import nnUNetTrainerUNETR


def test_the_bare_name_is_the_base_class() -> None:
    assert trainer_class("nnUNetTrainerUNETR") is nnUNetTrainerUNETR


def test_a_name_gives_one_class_that_carries_it() -> None:
    made = trainer_class("nnUNetTrainerUNETR_Tiny_2epochs")
    assert made is trainer_class("nnUNetTrainerUNETR_Tiny_2epochs")
    assert issubclass(made, nnUNetTrainerUNETR)
    assert made.__name__ == "nnUNetTrainerUNETR_Tiny_2epochs" == str(made.settings)


def test_a_wrong_name_lists_the_right_tokens() -> None:
    with pytest.raises(ValueError, match=r"unknown token 'Smal'.*Tiny"):
        trainer_class("nnUNetTrainerUNETR_Smal")


@pytest.mark.slow
def test_classes_and_instances_are_pickled_into_another_process() -> None:
    names = ["nnUNetTrainerUNETR", "nnUNetTrainerUNETR_Modified_Tiny_2epochs_seed1"]
    pickled = pickle.dumps([(made, made.__new__(made)) for made in map(trainer_class, names)])
    program = """
import pickle, sys
for made, one in pickle.load(sys.stdin.buffer):
    print(made.settings, type(one) is made)
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, input=pickled, capture_output=True, check=False)
    assert done.stdout.decode().splitlines() == [f"{name} True" for name in names], done.stderr.decode()


@pytest.mark.parametrize("name", ["nnUNetTrainerUNETR_Smal", "nnUNetTrainer", "__path__"])
def test_other_names_are_no_attributes(name: str) -> None:
    assert not hasattr(factory, name)
