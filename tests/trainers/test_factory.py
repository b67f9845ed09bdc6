import pytest

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
