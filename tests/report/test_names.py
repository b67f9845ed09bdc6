from unetr_nnunet.report.names import breakable, organ_label, shorten


def test_what_all_names_share_is_left_out() -> None:
    names = [f"nnUNetTrainerUNETR{middle}_Tiny_4epochs_seed{seed}" for middle in ("", "_FPN") for seed in (0, 1)]
    assert list(shorten(names).values()) == ["UNETR_seed0", "UNETR_seed1", "UNETR_FPN_seed0", "UNETR_FPN_seed1"]


def test_a_family_leaves_out_what_it_shares() -> None:
    names = ["nnUNetTrainer", "nnUNetTrainerUNETR_Tiny", "nnUNetTrainerUNETR_FPN_Tiny"]
    assert list(shorten(names).values()) == ["nnUNetTrainer", "UNETR", "UNETR_FPN"]


def test_plans_and_configuration_that_all_share_are_left_out() -> None:
    names = [f"nnUNetTrainerUNETR_{part}_4epochs_seed0 demo" for part in ("FPN", "CNNStem")]
    assert list(shorten(names).values()) == ["UNETR_FPN", "UNETR_CNNStem"]
    assert list(shorten(["a 2d", "a 3d_fullres"]).values()) == ["a 2d", "a 3d_fullres"]


def test_names_stay_different() -> None:
    names = ["A_x", "A_x_x", "nnUNetTrainerB", "B"]
    short = shorten(names)
    assert len(set(short.values())) == len(names)
    assert shorten(["one_model"]) == {"one_model": "one_model"}


def test_lines_break_after_underscores_and_markup_is_escaped() -> None:
    assert breakable("a_<b>") == "a_<wbr>&lt;b&gt;"
    assert organ_label("left_kidney") == "left kidney"
