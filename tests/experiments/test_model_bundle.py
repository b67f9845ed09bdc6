import json
import zipfile
from pathlib import Path

import pytest
from nnunetv2.model_sharing import model_import

from unetr_nnunet.experiments.best_model import BestModel
from unetr_nnunet.experiments.model_bundle import write_bundle
from unetr_nnunet.inference.model_set import LARGEST_COMPONENT, read_model_set

MEMBERS = ("nnUNetTrainerUNETR__nnUNetPlans__3d_fullres", "nnUNetTrainer__nnUNetPlans__3d_fullres")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two models of two folds, with what a training leaves beside its last checkpoint."""
    folder = tmp_path / "results" / "Dataset017_BTCV"
    for member in MEMBERS:
        for fold in (0, 1, 2):
            (folder / member / f"fold_{fold}" / "validation").mkdir(parents=True)
            for name in ("checkpoint_final.pth", "checkpoint_best.pth", "progress.png", "validation/summary.json"):
                (folder / member / f"fold_{fold}" / name).write_text(f"{member} {fold} {name}")
        for name in ("plans.json", "dataset.json"):
            (folder / member / name).write_text(f'"{member} {name}"')
    (folder / MEMBERS[0] / "label_statistics.json").write_text("{}")  # nnU-Net's own trainer leaves none
    return folder


def best(results: Path, members: tuple[str, ...] = MEMBERS) -> BestModel:
    rules = ((LARGEST_COMPONENT, {"labels_or_regions": [1, 2]}), (LARGEST_COMPONENT, {"labels_or_regions": 2}))
    scores = {MEMBERS[:1]: 0.5, MEMBERS[1:]: 0.6, MEMBERS: 0.7}
    return BestModel(members, (0, 2), 0.7, scores, MEMBERS[1:], rules, results / "ensembles" / "x")


def expected_files(members: tuple[str, ...] = MEMBERS) -> set[str]:
    names = ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth", "fold_2/checkpoint_final.pth")
    learnt = {f"{member}/label_statistics.json" for member in members if member == MEMBERS[0]}
    return {"best_model.json"} | learnt | {f"{member}/{name}" for member in members for name in names}


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_folder_and_zip_file_hold_what_is_needed(results: Path, tmp_path: Path) -> None:
    output = tmp_path / "study" / "best_model" / results.name
    archive = write_bundle(best(results), results, output)
    assert archive == tmp_path / "study" / "best_model.zip"
    assert files(output) == expected_files()
    with zipfile.ZipFile(archive) as opened:
        names = {name for name in opened.namelist() if not name.endswith("/")}
        assert names == {f"{results.name}/{name}" for name in expected_files()}
        assert opened.testzip() is None
        name = f"{MEMBERS[1]}/fold_2/checkpoint_final.pth"
        assert opened.read(f"{results.name}/{name}") == (results / name).read_bytes()
    content = json.loads((output / "best_model.json").read_text())
    assert content["models"] == list(MEMBERS)
    assert content["dice"] == 0.7
    assert content["validation"] == "ensembles/x", "true on another machine, too"
    assert content["nnunet_choice"] == [MEMBERS[1]]
    assert {"models": [MEMBERS[0]], "dice": 0.5} in content["tried"]


def test_the_folder_is_read_as_it_was_written(results: Path, tmp_path: Path) -> None:
    output = tmp_path / "best_model" / results.name
    write_bundle(best(results), results, output)
    found = read_model_set(output)
    assert found is not None
    assert found.models == tuple(output / member for member in MEMBERS)
    assert found.folds == ("0", "2")
    assert found.largest_only == ((1, 2), 2)


def test_an_earlier_choice_is_replaced(results: Path, tmp_path: Path) -> None:
    output = tmp_path / "best_model" / results.name
    write_bundle(best(results), results, output)
    archive = write_bundle(best(results, MEMBERS[1:]), results, output)
    assert files(output) == expected_files(MEMBERS[1:])
    with zipfile.ZipFile(archive) as opened:
        assert not any(MEMBERS[0] in name for name in opened.namelist())
    assert (results / MEMBERS[0] / "fold_0" / "checkpoint_final.pth").is_file(), "the training's own stays"


def test_nnunets_own_command_installs_it(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_bundle(best(results), results, tmp_path / "best_model" / results.name)
    monkeypatch.setattr(model_import, "nnUNet_results", str(tmp_path / "installed"))
    model_import.install_model_from_zip_file(str(archive))
    assert files(tmp_path / "installed" / results.name) == expected_files()
