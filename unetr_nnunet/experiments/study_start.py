"""Before a study starts: what cannot end well is refused, and what was lost is forgotten, to be made again."""

import contextlib
import importlib.util
import json
import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from unetr_nnunet.experiments.study import FILE, OUR_TRAINER, Study, read_json
from unetr_nnunet.experiments.study_plans import refuse_edited_plans
from unetr_nnunet.experiments.study_step import SETTINGS, dataset_name
from unetr_nnunet.nnunet_hook.environment import EXTERNAL_TRAINERS, trainer_folder


def results_folder(study: Study) -> Path | None:
    """Return the data set's folder in ``nnUNet_results``; None where the data set is not there yet."""
    with contextlib.suppress(FileNotFoundError):
        return Path(os.environ["nnUNet_results"]) / dataset_name(study.dataset)
    return None


def check(study: Study, folder: Path) -> None:
    """Refuse what cannot end well: no data, unknown trainers, a folder of something else, plans edited since.

    Raises:
        FileNotFoundError: there is no data set, and nothing says how to make it.
        ValueError: the message says what is wrong and how to mend it.
    """
    if (folder / FILE).is_file() and (other := read_json(folder / FILE).dataset) != study.dataset:
        raise ValueError(
            f"{folder} holds a study on data set {other}, not {study.dataset}: name another folder with -o"
        )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder with -o")
    if folder.is_dir() and not (folder / FILE).is_file():
        others = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        if others:
            some = ", ".join(others[:3] + ["..."] * (len(others) > 3))
            raise ValueError(f"{folder} holds no study, but {some}, which might be lost: name a new folder with -o")
    _refuse_unknown_trainers(study)
    results = results_folder(study)
    if results is None:
        if not study.data:
            dataset_name(study.dataset)  # says how to make it
        return
    refuse_edited_plans(study, Path(os.environ["nnUNet_preprocessed"]) / results.name, results, folder)


def _refuse_unknown_trainers(study: Study) -> None:
    """Refuse names that stand nowhere in nnU-Net; where others plug trainers in as well, anything may be one."""
    external = [path for path in os.environ.get(EXTERNAL_TRAINERS, "").split(os.pathsep) if path]
    if any(Path(path) != trainer_folder() for path in external):
        return
    spec = importlib.util.find_spec("nnunetv2")
    origin = Path(spec.origin if spec and spec.origin else os.devnull).parent
    sources = (path.read_text(encoding="utf-8") for path in (origin / "training" / "nnUNetTrainer").rglob("*.py"))
    known = {name for source in sources for name in re.findall(r"^class (\w+)", source, re.MULTILINE)}
    for model in study.models:
        if not model.trainer.startswith(OUR_TRAINER) and model.trainer not in known:
            near = get_close_matches(model.trainer, [*known, OUR_TRAINER], 1)
            hint = f"; do you mean {near[0]}?" if near else ""
            raise ValueError(f"there is no trainer {model.trainer}, neither nnU-Net's nor ours{hint}")


def refuse_other_folders(folders: Mapping[str, str], folder: Path) -> None:
    """Refuse to go on with a study in other folders of nnU-Net than it was begun with: it would train all again.

    Args:
        folders: nnU-Net's folders now, by the names of their variables.
        folder: the study's.

    Raises:
        ValueError: they differ.
    """
    settings = folder / SETTINGS
    if not settings.is_file():
        return
    for name, before in json.loads(settings.read_text(encoding="utf-8")).get("folders", {}).items():
        if (now := folders.get(name, before)) != before:
            raise ValueError(
                f"{folder} was begun with {name} = {before}, which now is {now}: set it as before, or name "
                "another folder with -o"
            )


def forget_what_is_lost(study: Study, folder: Path) -> None:
    """Remove the marks of steps that a changed study, or a removed training, asks for again."""
    _forget_other_plans(study, folder)
    _forget_lost_trainings(study, folder)


def _forget_other_plans(study: Study, folder: Path) -> None:
    """Plan and preprocess again where a study has changed in what these steps do."""
    if not (folder / FILE).is_file():
        return
    before = read_json(folder / FILE)
    wanted, done = (
        ({(m.plans, m.configuration) for m in each.models}, each.plans, each.configurations) for each in (study, before)
    )
    for name, how in before.plans.items():
        path = next(Path(os.environ["nnUNet_preprocessed"]).glob(f"Dataset{study.dataset:03d}_*/{name}.json"), None)
        if path is not None and study.plans.get(name, how) != how:
            raise ValueError(f"[plans.{name}] has changed, and {path} is there: give the new plans another name")
    if wanted != done:
        for name in ("plan", "preprocess"):
            (folder / "done" / name).unlink(missing_ok=True)


def _forget_lost_trainings(study: Study, folder: Path) -> None:
    """Train again what has been removed from nnU-Net's results since, and choose again."""
    results = results_folder(study)
    if results is None:
        return
    for model in study.models:
        for fold in study.folds:
            trained = results / model.identifier / f"fold_{fold}"
            if not all((trained / name).is_file() for name in ("checkpoint_final.pth", "validation/summary.json")):
                mark = folder / "done" / "train" / model.identifier / f"fold_{fold}"
                if mark.exists():  # what is made from it would else keep it from being made
                    mark.unlink()
                    for later in ("candidates.json", "done/best", "done/test", "done/report"):
                        (folder / later).unlink(missing_ok=True)
