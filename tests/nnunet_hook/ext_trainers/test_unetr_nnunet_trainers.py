"""nnU-Net's own look-up on our shim folder."""

import pytest
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from unetr_nnunet.nnunet_hook.environment import EXTERNAL_TRAINERS, trainer_folder
from unetr_nnunet.trainers.factory import trainer_class


@pytest.fixture(autouse=True)
def _external_trainers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXTERNAL_TRAINERS, str(trainer_folder()))


@pytest.mark.parametrize("name", ["nnUNetTrainerUNETR", "nnUNetTrainerUNETR_Tiny_Paper_NoLRFlip_2epochs_seed7"])
def test_nnunet_finds_the_installed_class(name: str) -> None:
    assert recursive_find_trainer_class_by_name(name) is trainer_class(name)


def test_a_wrong_token_reaches_the_user_as_a_list_of_right_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown token 'Huge'.*Tiny, Large"):
        recursive_find_trainer_class_by_name("nnUNetTrainerUNETR_Huge")


def test_nnunets_own_trainers_are_still_found() -> None:
    assert recursive_find_trainer_class_by_name("nnUNetTrainer_5epochs").__module__.startswith("nnunetv2.")


@pytest.mark.parametrize("name", ["SomebodyElsesTrainer", "nnUNetTrainerUNETRPP"])
def test_names_of_others_are_not_ours(name: str) -> None:
    with pytest.raises(RuntimeError, match=name):
        recursive_find_trainer_class_by_name(name)
