from importlib.metadata import version

import pytest
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from unetr_nnunet.architectures.planned import architecture_entry, planned_fields, planned_version_note

pytestmark = pytest.mark.usefixtures("otherlab")
BEFORE = "unetr_nnunet.architectures.build.build_unetr"


def test_plans_name_the_architecture_and_its_package():
    entry = architecture_entry("Pyramid")
    assert entry["arch_kwargs"] == {"architecture": "Pyramid", "package": "otherlab", "version": "1.2"}
    assert architecture_entry("FPN", token_size=[4, 8, 8])["arch_kwargs"] == {
        "architecture": "FPN",
        "package": "unetr_nnunet",
        "version": version("unetr_nnunet"),
        "token_size": [4, 8, 8],
    }


def test_what_plans_decide():
    entry = architecture_entry("FPN", token_size=[4, 8, 8])
    assert planned_fields(entry["network_class_name"], entry["arch_kwargs"]) == {"token_size": [4, 8, 8]}
    assert planned_fields(BEFORE, {"taps": "monai"}) == {"taps": "monai"}
    assert planned_fields("some.UNet", {"taps": "monai"}) == {}


def test_another_version_is_noted_for_the_architecture_that_is_built():
    name = architecture_entry("Pyramid")["network_class_name"]
    old = {"architecture": "Pyramid", "package": "otherlab", "version": "0.9"}
    assert "0.9" in str(planned_version_note(name, old, "Pyramid"))
    assert planned_version_note(name, old, "FPN") is None
    assert planned_version_note(name, old | {"version": "1.2"}, "Pyramid") is None
    assert planned_version_note(BEFORE, {}, "original") is None
    assert planned_version_note("some.UNet", old, "Pyramid") is None


def test_a_stock_trainer_is_told_which_plans_it_needs():
    entry = architecture_entry("Pyramid")
    with pytest.raises(ValueError, match=r"these plans are for Pyramid, which only our trainers can build"):
        get_network_from_plans(*entry.values(), 1, 2)
