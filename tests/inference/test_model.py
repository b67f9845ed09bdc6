"""Models as nnU-Net's own predictor loads them from the same folder."""

import contextlib
import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.primus.primus_trainers import nnUNet_Primus_S_Trainer

from tests.conftest import set_nnunet_folders
from tests.inference.small_model import DATASET, PATCH, PLAIN, REGIONS, RESIDUAL, plans
from tests.inference.stock_checkpoint import build, content, write_folder
from tests.weights.monai_unetr import HEADS, WINDOW, make_unetr
from unetr_nnunet.inference.model import Model, load_model
from unetr_nnunet.trainers.factory import trainer_class
from unetr_nnunet.weights.imported_model import write_model_folder
from unetr_nnunet.weights.released_unetr import recognise

FINAL = "checkpoint_final.pth"
Plan = dict[str, Any]


@pytest.fixture(autouse=True)
def _no_nnunet_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "nnUNet_extTrainer"):
        monkeypatch.setenv(name, "")  # so that what the code under test sets goes afterwards
        monkeypatch.delenv(name)


def small_folder(folder: Path, plan: Plan | None = None, folds: int = 1, trainer: Any = nnUNetTrainer) -> Path:
    """Write a model folder of nnU-Net with small random networks."""
    plan = plan or plans()
    torch.manual_seed(0)
    checkpoints = {
        f"fold_{fold}/{FINAL}": content(build(trainer, plan), plan, trainer.__name__, fold) for fold in range(folds)
    }
    return write_folder(folder, plan, checkpoints)


def change(path: Path, **entries: Any) -> None:
    checkpoint = torch.load(path, weights_only=False)
    torch.save(checkpoint | entries, path)


def stock(folder: Path, folds: tuple[int | str, ...] | None) -> nnUNetPredictor:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(folder), folds)
    return predictor


def assert_as_stock(model: Model, predictor: nnUNetPredictor) -> None:
    assert model.trainer_name == predictor.trainer_name
    assert model.mirror_axes == tuple(predictor.allowed_mirroring_axes or ())
    assert model.configuration.configuration == predictor.configuration_manager.configuration
    assert model.dataset == predictor.dataset_json
    assert model.labels.num_segmentation_heads == predictor.label_manager.num_segmentation_heads
    assert len(model.parameters) == len(predictor.list_of_parameters)
    assert not model.network.training
    patch = torch.rand(1, len(model.channel_names), *model.configuration.patch_size)
    for ours, theirs in zip(model.parameters, predictor.list_of_parameters, strict=True):
        model.network.load_state_dict(ours)
        predictor.network.load_state_dict(theirs)
        with torch.inference_mode():
            logits = model.network(patch)
            assert torch.equal(logits, predictor.network.eval()(patch))
            assert logits.shape[2:] == patch.shape[2:]
    model.network.load_state_dict(model.parameters[0])


@pytest.mark.parametrize(
    ("trainer", "plan"),
    [
        (nnUNetTrainer, plans()),
        (nnUNetTrainer, plans(network_class=RESIDUAL)),
        (nnUNetTrainer, plans(network_class=PLAIN.replace(".unet.", ".moved."))),
        (nnUNetTrainer, plans(patch=(32, 32), spacing=(1.5, 1.5))),
        (nnUNet_Primus_S_Trainer, plans(patch=(16, 16, 16))),
        (trainer_class("nnUNetTrainerUNETR_Tiny"), plans(patch=(16, 32, 32))),
        (trainer_class("nnUNetTrainerUNETR_Modified_Tiny_NoLRFlip_seed3"), plans(patch=(16, 32, 32))),
    ],
    ids=["plain", "residual", "moved class", "2d", "Primus", "UNETR", "modified"],
)
def test_the_network_is_that_of_the_stock_predictor(
    tmp_path: Path, trainer: Any, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = small_folder(tmp_path / "model", plan, trainer=trainer)
    model = load_model(folder, None)
    set_nnunet_folders(monkeypatch, tmp_path)
    assert_as_stock(model, stock(folder, (0,)))
    assert model.folder == folder


def test_loading_prints_and_warns_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old_plan = plans()
    old = old_plan["configurations"]["3d_fullres"]
    arguments = old.pop("architecture")["arch_kwargs"]
    old |= {  # as nnU-Net 2.0 to 2.3 wrote it
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 8,
        "n_conv_per_stage_encoder": arguments["n_conv_per_stage"],
        "n_conv_per_stage_decoder": arguments["n_conv_per_stage_decoder"],
        "num_pool_per_axis": [2, 2, 2],
        "pool_op_kernel_sizes": arguments["strides"],
        "conv_kernel_sizes": arguments["kernel_sizes"],
    }
    folder = small_folder(tmp_path / "model")
    (folder / "plans.json").write_text(json.dumps(old_plan))
    model = load_model(folder, None)
    assert capsys.readouterr().out == ""
    assert_as_stock(model, stock(folder, (0,)))


def test_an_imported_unetr_is_in_ras(tmp_path: Path) -> None:
    released = recognise(make_unetr().state_dict(), "released.pth", heads=HEADS, window=WINDOW)
    folder = write_model_folder(released, "released.pth", tmp_path)
    model = load_model(folder, None)
    assert (model.orientation, model.orientation_source) == ("RAS", "reader NibabelIOWithReorient")
    assert model.mirror_axes == ()
    assert model.is_ct
    with torch.inference_mode():
        assert model.network(torch.zeros(1, 1, *WINDOW[::-1])).shape == (1, 14, *WINDOW[::-1])


EXTERNAL = """
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

class nnUNetTrainerFromElsewhere(nnUNetTrainer):
    @staticmethod
    def build_network_architecture(
        architecture_class_name, arch_init_kwargs, arch_init_kwargs_req_import, num_input_channels,
        num_output_channels, enable_deep_supervision=True
    ):
        return get_network_from_plans(
            architecture_class_name, arch_init_kwargs, arch_init_kwargs_req_import, num_input_channels,
            num_output_channels, allow_init=True, deep_supervision=enable_deep_supervision
        )
"""


def test_a_trainer_from_elsewhere_with_the_old_signature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = small_folder(tmp_path / "model")
    change(folder / "fold_0" / FINAL, trainer_name="nnUNetTrainerFromElsewhere")
    with pytest.raises(
        ValueError, match=r"model: the model's trainer nnUNetTrainerFromElsewhere is not .*nnUNet_extTrainer"
    ):
        load_model(folder, None)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "foreign_trainer.py").write_text(EXTERNAL)
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path / "elsewhere"))
    assert_as_stock(load_model(folder, None), stock(folder, None))
    (tmp_path / "elsewhere" / "foreign_trainer.py").write_text("import a_package_that_is_not_there\n")
    with pytest.raises(ValueError, match=r"FromElsewhere cannot be imported \(ModuleNotFoundError: .*a_package_that"):
        load_model(folder, None)


def test_a_wrong_token_in_our_trainers_name_is_explained(tmp_path: Path) -> None:
    folder = small_folder(tmp_path / "model")
    change(folder / "fold_0" / FINAL, trainer_name="nnUNetTrainerUNETR_Huge")
    with pytest.raises(ValueError, match=r"Huge"):
        load_model(folder, None)


# ---- folds ----


@pytest.fixture
def three_folds(tmp_path: Path) -> Path:
    folder = small_folder(tmp_path / "model", folds=3)
    (folder / "fold_2").rename(folder / "fold_10")
    (folder / "fold_all").mkdir()
    (folder / "fold_1" / FINAL).rename(folder / "fold_1" / "checkpoint_best.pth")
    return folder


def first_values(model: Model) -> list[float]:
    return [float(next(iter(parameters.values())).flatten()[0]) for parameters in model.parameters]


def test_folds_are_found_and_chosen(three_folds: Path) -> None:
    values = {
        fold: float(next(iter(torch.load(path, weights_only=False)["network_weights"].values())).flatten()[0])
        for fold, path in ((0, three_folds / "fold_0" / FINAL), (10, three_folds / "fold_10" / FINAL))
    }
    assert first_values(load_model(three_folds, None)) == [values[0], values[10]]
    assert first_values(load_model(three_folds, [10, 0])) == [values[0], values[10]]
    assert first_values(load_model(three_folds, ["0", 0])) == [values[0]]
    assert_as_stock(load_model(three_folds, (0, 10)), stock(three_folds, (0, 10)))
    assert len(load_model(three_folds, None, "checkpoint_best.pth").parameters) == 1
    (three_folds / "fold_0" / FINAL).rename(three_folds / "fold_all" / FINAL)
    assert first_values(load_model(three_folds, None)) == [values[10]]
    assert first_values(load_model(three_folds, ["all"])) == [values[0]]
    assert first_values(load_model(three_folds, "all")) == [values[0]]
    (three_folds / "fold_10" / FINAL).unlink()
    assert first_values(load_model(three_folds, None)) == [values[0]]


def test_missing_folds_are_told_beside_those_there_are(three_folds: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        load_model(three_folds, [0, 1, 4])
    assert str(caught.value) == (
        f"{three_folds} has no fold 1, 4 with checkpoint_final.pth; it has fold_0 with checkpoint_final.pth; "
        "fold_1 with checkpoint_best.pth; fold_10 with checkpoint_final.pth; fold_all with no checkpoint"
    )
    with pytest.raises(FileNotFoundError, match=r"no fold with checkpoint_latest\.pth; it has fold_0 with checkpoint_"):
        load_model(three_folds, None, "checkpoint_latest.pth")
    with pytest.raises(FileNotFoundError, match=r"no fold \.\./model with"):
        load_model(three_folds, ["../model"])


def test_a_folder_without_folds(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", plans(), {})
    with pytest.raises(FileNotFoundError, match="it has no folds at all"):
        load_model(folder, None)
    with pytest.raises(FileNotFoundError, match="it has no folds at all"):
        load_model(folder, [])


@pytest.mark.parametrize(
    ("entries", "fact"),
    [
        ({"trainer_name": "nnUNetTrainerDA5"}, "trainer is nnUNetTrainer and nnUNetTrainerDA5"),
        ({"init_args": {"configuration": "2d"}}, "configuration is 3d_fullres and 2d"),
        ({"array_orientation": "RAS"}, "orientation is LPS and RAS"),
    ],
)
def test_folds_of_two_models_are_refused(tmp_path: Path, entries: dict[str, Any], fact: str) -> None:
    folder = small_folder(tmp_path / "model", folds=2)
    change(folder / "fold_0" / FINAL, array_orientation="LPS")
    change(folder / "fold_1" / FINAL, **entries)
    with pytest.raises(ValueError, match=rf"fold_0\S* and \S*fold_1\S* are not folds of one model: their {fact}"):
        load_model(folder, None)
    load_model(folder, [0])


# ---- orientation and channels ----


@pytest.mark.parametrize(
    ("reader", "stored", "expected", "source"),
    [
        ("NibabelIOWithReorient", None, "RAS", "reader NibabelIOWithReorient"),
        ("NibabelIOWithReorient", "RAS", "RAS", "reader NibabelIOWithReorient"),
        ("SimpleITKIOWithReorient", None, "RAS", "reader SimpleITKIOWithReorient"),
        ("SimpleITKIO", "PIR", "PIR", "stored at training"),
        ("NibabelIO", "RAS", "RAS", "stored at training"),
        ("SimpleITKIO", None, "LPS", "assumed LPS: reader SimpleITKIO keeps the orientation of each file, and the "),
        ("NibabelIO", None, "LPS", "assumed LPS: reader NibabelIO keeps the orientation of each file, and the "),
    ],
)
def test_the_orientation_is_that_of_training(
    tmp_path: Path, reader: str, stored: str | None, expected: str, source: str
) -> None:
    folder = small_folder(tmp_path / "model", plans(reader=reader), folds=2)
    change(folder / "fold_1" / FINAL, array_orientation=stored)
    model = load_model(folder, None)
    assert model.orientation == expected
    assert model.orientation_source.startswith(source)


@pytest.mark.parametrize(
    ("channels", "names", "is_ct"),
    [
        ({"channel_names": {"0": "CT"}}, ["CT"], True),
        ({"channel_names": {"0": "ct", "1": "CT"}}, ["ct", "CT"], True),
        ({"channel_names": {"0": "CT", "1": "PET"}}, ["CT", "PET"], False),
        ({"modality": {"0": "T2"}}, ["T2"], False),
    ],
)
def test_channels(tmp_path: Path, channels: dict[str, Any], names: list[str], is_ct: bool) -> None:
    dataset = {key: value for key, value in DATASET.items() if key != "channel_names"}
    network = build(nnUNetTrainer, plans(), DATASET | {"channel_names": dict(enumerate(names))})
    checkpoint = content(network, plans())
    model = load_model(write_folder(tmp_path / "m", plans(), {f"fold_0/{FINAL}": checkpoint}, dataset | channels), None)
    assert model.channel_names == names
    assert model.is_ct is is_ct


def test_regions(tmp_path: Path) -> None:
    dataset = DATASET | REGIONS
    checkpoint = content(build(nnUNetTrainer, plans(), dataset), plans())
    folder = write_folder(tmp_path / "model", plans(), {f"fold_all/{FINAL}": checkpoint}, dataset)
    model = load_model(folder, None)
    assert model.labels.has_regions
    assert_as_stock(model, stock(folder, ("all",)))


# ---- what does not fit together ----


def test_a_stage_of_a_cascade_is_refused(tmp_path: Path) -> None:
    plan = plans()
    plan["configurations"]["3d_lowres"] = plan["configurations"]["3d_fullres"]
    cascade = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    folder = small_folder(tmp_path / "model")
    plan["configurations"]["3d_cascade_fullres"] = cascade
    (folder / "plans.json").write_text(json.dumps(plan))
    change(folder / "fold_0" / FINAL, init_args={"configuration": "3d_cascade_fullres"})
    with pytest.raises(ValueError, match=r"second stage of a cascade.*3d_lowres: use nnUNetv2_predict"):
        load_model(folder, None)


def test_weights_that_do_not_fit_the_plans_are_named(tmp_path: Path) -> None:
    folder, plan = small_folder(tmp_path / "model"), plans()
    plan["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["features_per_stage"] = [4, 8, 16]
    (folder / "plans.json").write_text(json.dumps(plan))
    with pytest.raises(ValueError, match=r"does not fit the plans beside it") as caught:
        load_model(folder, None)
    assert (
        "encoder.stages.2.0.convs.0.conv.weight is (8, 8, 3, 3, 3) where the plans make it (16, 8, 3, 3, 3), "
        in str(caught.value)
    )
    assert str(caught.value).count(" where the plans make it ") == 3
    assert " more; put back the plans.json" in str(caught.value)


def test_missing_and_unknown_tensors_are_named(tmp_path: Path) -> None:
    folder = small_folder(tmp_path / "model", folds=2)
    weights = torch.load(folder / "fold_1" / FINAL, weights_only=False)["network_weights"]
    first = next(iter(weights))
    weights["surplus"] = weights.pop(first)
    change(folder / "fold_1" / FINAL, network_weights=weights)
    with pytest.raises(
        ValueError, match=rf"fold_1\S* does not fit .*: {first} is missing, surplus is not in the network of the plans;"
    ):
        load_model(folder, None)


def test_a_configuration_that_the_plans_do_not_have(tmp_path: Path) -> None:
    folder = small_folder(tmp_path / "model")
    change(folder / "fold_0" / FINAL, init_args={"configuration": "3d_demo"})
    with pytest.raises(ValueError, match=r"model: plans.json and dataset.json describe no model .*3d_demo.*3d_fullres"):
        load_model(folder, None)


@pytest.mark.parametrize("name", ["plans.json", "dataset.json"])
@pytest.mark.parametrize(("text", "fact"), [("{", "damaged"), ("[]", "holds a list"), ("{}", "describe no model")])
def test_damaged_descriptions(tmp_path: Path, name: str, text: str, fact: str) -> None:
    folder = small_folder(tmp_path / "model")
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=fact) as caught:
        load_model(folder, None)
    assert "\n" not in str(caught.value)


def test_a_wrong_folder_is_told_with_the_right_one(tmp_path: Path) -> None:
    folder = small_folder(tmp_path / "Dataset999_Toy" / "model")
    for wrong in (folder.parent, folder / "fold_0"):
        with pytest.raises(FileNotFoundError, match=rf"{wrong} is no model folder .*: did you mean {folder}\?"):
            load_model(wrong, None)
    with pytest.raises(FileNotFoundError, match=r"give the folder that holds plans\.json, dataset\.json, fold_\*"):
        load_model(tmp_path / "elsewhere" / "model", None)
    other = small_folder(tmp_path / "Dataset999_Toy" / "other")
    with pytest.raises(FileNotFoundError, match=rf"{folder.parent} is no .*; give one of {folder}, {other}$"):
        load_model(folder.parent, None)


# ---- plans that want to run code ----


@pytest.mark.parametrize("path", ["torch.hub.load", f"{PLAIN.rpartition('.')[0]}.torch.hub.load", "intruder.Network"])
def test_plans_cannot_call_what_is_no_network(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    code = f"from pathlib import Path\nPath({str(tmp_path / 'intruded')!r}).mkdir()\n"
    for name in ("hubconf.py", "intruder.py"):
        (repository / name).write_text(code + "def entry(**arguments): raise RuntimeError('called')\n")
    monkeypatch.syspath_prepend(str(repository))
    folder, plan = small_folder(tmp_path / "model"), plans()
    plan["configurations"]["3d_fullres"]["architecture"] = {
        "network_class_name": path,
        "arch_kwargs": {"repo_or_dir": str(repository), "model": "entry", "source": "local"},
        "_kw_requires_import": [],
    }
    (folder / "plans.json").write_text(json.dumps(plan))
    with pytest.raises(ValueError, match=rf"{path}, which is no network part of .* --trust-checkpoint"):
        load_model(folder, None)
    assert not (tmp_path / "intruded").exists()
    with pytest.raises(ValueError, match="cannot be built"):
        load_model(folder, None, trust=True)
    assert (tmp_path / "intruded").exists(), "the attack itself works, where it is trusted"


def test_plans_cannot_import_what_is_no_network_part(tmp_path: Path) -> None:
    folder, plan = small_folder(tmp_path / "model"), plans()
    plan["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["nonlin"] = "antigravity.fly"
    (folder / "plans.json").write_text(json.dumps(plan))
    with pytest.raises(ValueError, match=r"antigravity\.fly, which is no network part"):
        load_model(folder, None)


# ---- what trainers really write ----


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nnUNetTrainer", "nnUNetTrainerUNETR_Tiny_1epochs"])
def test_what_a_training_writes_loads(make_trainer: Callable[..., Any], name: str) -> None:
    trainer = make_trainer("nnUNetTrainerUNETR_Tiny_1epochs")
    if name == "nnUNetTrainer":
        plan = dict(trainer.plans_manager.plans) | {"continue_training": False}
        trainer = nnUNetTrainer(plan, "3d_fullres", 0, trainer.dataset_json, torch.device("cpu"))
        trainer.logger.plot_progress_png = lambda folder: None
        trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch, trainer.num_epochs = 2, 1, 1
    trainer.run_training()
    logged = torch.load(Path(trainer.output_folder) / FINAL, weights_only=False)["logging"]
    assert isinstance(logged["train_losses"][0], np.generic), "numpy's scalars are what torch alone refuses"
    folder = Path(trainer.output_folder).parent
    model = load_model(folder, [0])
    assert_as_stock(model, stock(folder, (0,)))
    assert model.orientation == "RAS"
    best = load_model(folder, [0], "checkpoint_best.pth")
    assert best.trainer_name == name
    assert tuple(best.configuration.patch_size) == PATCH
