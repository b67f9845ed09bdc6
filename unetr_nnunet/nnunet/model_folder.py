"""Find a model folder in nnU-Net's results by data set, configuration, trainer and plans, as nnUNetv2_predict does."""

import os
from pathlib import Path


def find_model_folder(
    dataset: int | str, configuration: str, trainer: str = "nnUNetTrainer", plans: str = "nnUNetPlans"
) -> Path:
    """Return a model folder in ``nnUNet_results``.

    Args:
        dataset: number or full name of the data set, such as 17 or ``Dataset017_BTCV``.
        configuration: such as ``3d_fullres``.
        trainer: class name of the trainer.
        plans: identifier of the plans.

    Raises:
        FileNotFoundError: if there is no such data set or model; the message names those there are.
        ValueError: if ``nnUNet_results`` is not set, the data set is no number or name, or its number stands for two.
    """
    results = os.environ.get("nnUNet_results")
    if not results:
        raise ValueError("nnUNet_results is not set: export it, or name the model folder itself with -m")
    folder = _dataset_folder(Path(results), str(dataset))
    model = folder / f"{trainer}__{plans}__{configuration}"
    if not (model / "plans.json").is_file():
        there = ", ".join(sorted(path.parent.name for path in folder.glob("*__*__*/plans.json")))
        raise FileNotFoundError(f"{folder} has no model {model.name}; it has {there or 'none'}")
    return model


def _dataset_folder(results: Path, dataset: str) -> Path:
    if dataset.isdecimal():
        found = sorted(path for path in results.glob(f"Dataset{int(dataset):03d}_*") if path.is_dir())
    elif dataset.startswith("Dataset"):
        found = [path for path in results.glob("Dataset*") if path.name == dataset]
    else:
        raise ValueError(f"{dataset!r} is no data set of nnU-Net: give its number or its name, such as Dataset017_BTCV")
    if not found:
        there = ", ".join(sorted(path.name for path in results.glob("Dataset*")))
        raise FileNotFoundError(f"{results} (nnUNet_results) has no data set {dataset}; it has {there or 'none'}")
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise ValueError(f"the number {dataset} stands for {names} in {results}: give the name")
    return found[0]
