"""Load an nnU-Net v2 model folder for prediction: ours, nnU-Net's default, ResEnc, Primus.

Loaded as by ``nnUNetPredictor.initialize_from_trained_model_folder`` of nnU-Net 2.8, but without running code from the
folder, and with the orientation that the model was trained in.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager, determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from unetr_nnunet.inference.model_network import build_network, differing_tensors, quiet
from unetr_nnunet.inference.resampling import Resampling, planned_resampling
from unetr_nnunet.nnunet.checkpoint import Checkpoint, in_brief, load_checkpoint
from unetr_nnunet.nnunet.folders import FINAL_CHECKPOINT

READER_ORIENTATIONS = {"NibabelIOWithReorient": "RAS", "SimpleITKIOWithReorient": "RAS"}
"""nnU-Net's image readers that bring every image to one orientation; the others keep that of each file."""
ASSUMED_ORIENTATION = "LPS"
"""Axes of a CT as scanners write it, and so of most data sets."""


@dataclass
class Model:
    """A trained model, ready for prediction.

    Attributes:
        folder: model folder, or the zip file it came from; for messages.
        plans: its plans.
        configuration: the configuration that was trained.
        dataset: content of its ``dataset.json``.
        labels: nnU-Net's view of the labels or regions.
        network: in evaluation mode on the CPU, with the first fold's weights.
        parameters: state dict of each fold, as a rule mapped from its file; load them with ``load_state_dict``, which
            copies, and write to none.
        mirror_axes: spatial axes of the patch that may be mirrored; () for none.
        orientation: orientation code of the arrays (Z, Y, X) that the model was trained on, such as "RAS".
        orientation_source: where that is known from, in words.
        trainer_name: class name of the trainer.
        resampling: how its plans resample logits to an image.
    """

    folder: Path
    plans: PlansManager
    configuration: ConfigurationManager
    dataset: dict[str, Any]
    labels: LabelManager
    network: nn.Module
    parameters: list[dict[str, torch.Tensor]]
    mirror_axes: tuple[int, ...]
    orientation: str
    orientation_source: str
    trainer_name: str
    resampling: Resampling

    @property
    def channel_names(self) -> list[str]:
        """Names of the image channels, in their order."""
        channels: dict[str, str] = self.dataset.get("channel_names") or self.dataset["modality"]
        return list(channels.values())

    @property
    def is_ct(self) -> bool:
        """Whether every channel is a CT, whatever the case of its letters, as in nnU-Net."""
        return all(name.casefold() == "ct" for name in self.channel_names)


def load_model(
    folder: Path | str,
    folds: int | str | Sequence[int | str] | None = None,
    checkpoint: str = FINAL_CHECKPOINT,
    trust: bool = False,
) -> Model:
    """Load a model folder.

    Args:
        folder: with ``plans.json``, ``dataset.json`` and ``fold_*``.
        folds: a fold's number or "all", or several; None for every numbered fold that holds the checkpoint, else "all".
        checkpoint: file name of the checkpoint in each fold's folder.
        trust: run whatever code checkpoints and plans ask for.

    Raises:
        FileNotFoundError: if the folder, a file in it or a fold is missing.
        ValueError: if the folder cannot be loaded, its folds do not belong together, weights are not finite, or it can
            only be predicted with by nnU-Net itself.
    """
    folder = Path(folder)
    folds = [folds] if isinstance(folds, int | str) else folds
    plans_json, dataset = _read_json(folder, "plans.json"), _read_json(folder, "dataset.json")
    checkpoints = [load_checkpoint(path, trust) for path in _checkpoint_files(folder, folds, checkpoint)]
    first = checkpoints[0]
    _check_alike(checkpoints)
    try:
        with quiet():
            plans = PlansManager(plans_json)
            configuration = plans.get_configuration(first.configuration)
            labels = plans.get_label_manager(dataset)
            in_channels = determine_num_input_channels(plans, configuration, dataset)
            out_channels, reader = labels.num_segmentation_heads, str(plans_json["image_reader_writer"])
    except Exception as error:  # nnU-Net raises what it stumbles over
        raise ValueError(f"{folder}: plans.json and dataset.json describe no model ({in_brief(error)})") from error
    if configuration.previous_stage_name is not None:
        raise ValueError(
            f"{folder} is the second stage of a cascade, which needs the masks of {configuration.previous_stage_name}: "
            "use nnUNetv2_predict with -prev_stage_predictions"
        )
    try:
        network = build_network(first.trainer_name, plans, configuration, in_channels, out_channels, trust=trust)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    resampling = planned_resampling(configuration.configuration, "probabilities")
    if resampling is None:
        raise ValueError(
            f"{folder}: only nnUNetv2_predict can resample probabilities by "
            f"{configuration.configuration['resampling_fn_probabilities']} with the options in its plans"
        )
    for each in checkpoints:
        _check_weights(network, each)
    network.load_state_dict(first.weights)
    orientation, orientation_source = _orientation(reader, checkpoints)
    return Model(
        folder=folder,
        plans=plans,
        configuration=configuration,
        dataset=dataset,
        labels=labels,
        network=network,
        parameters=[each.weights for each in checkpoints],
        mirror_axes=first.mirror_axes,
        orientation=orientation,
        orientation_source=orientation_source,
        trainer_name=first.trainer_name,
        resampling=resampling,
    )


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        near = sorted(found.parent for found in (*folder.glob("*/plans.json"), *folder.parent.glob("plans.json")))
        hint = "; give the folder that holds plans.json, dataset.json, fold_*"
        if near:
            hint = f": did you mean {near[0]}?" if len(near) == 1 else f"; give one of {', '.join(map(str, near))}"
        raise FileNotFoundError(f"{folder} is no model folder of nnU-Net, it has no {name}{hint}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not the content of an nnU-Net {name}")
    return content


def _checkpoint_files(folder: Path, folds: Sequence[int | str] | None, checkpoint: str) -> list[Path]:
    """Return the checkpoint of each wanted fold, by number: the order must not change how their sum is rounded."""
    by_fold = {path.name.removeprefix("fold_"): path for path in folder.glob("fold_*") if path.is_dir()}
    there = {fold: path / checkpoint for fold, path in by_fold.items() if (path / checkpoint).is_file()}
    numbered = sorted((fold for fold in there if re.fullmatch(r"\d+", fold)), key=int)
    if folds is None:
        wanted = numbered or ["all"]
    else:
        wanted = sorted(set([folds] if isinstance(folds, str) else map(str, folds)), key=lambda fold: (len(fold), fold))
    missing = [fold for fold in wanted if fold not in there]
    if missing or not wanted:
        asked = "fold" if folds is None or not missing else f"fold {', '.join(missing)}"
        contents = "; ".join(f"fold_{fold} with {_checkpoints_in(path)}" for fold, path in sorted(by_fold.items()))
        raise FileNotFoundError(f"{folder} has no {asked} with {checkpoint}; it has {contents or 'no folds at all'}")
    return [there[fold] for fold in wanted]


def _checkpoints_in(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in folder.glob("*.pth"))) or "no checkpoint"


def _check_alike(checkpoints: Sequence[Checkpoint]) -> None:
    first = checkpoints[0]
    for other in checkpoints[1:]:
        for what, here, there in (
            ("trainer", first.trainer_name, other.trainer_name),
            ("configuration", first.configuration, other.configuration),
            ("orientation", first.array_orientation, other.array_orientation),
        ):
            if here != there and None not in (here, there):
                raise ValueError(
                    f"{first.path} and {other.path} are not folds of one model: their {what} is {here} and {there}; "
                    "predict with one of them at a time"
                )


def _check_weights(network: nn.Module, checkpoint: Checkpoint) -> None:
    differences = differing_tensors(network, checkpoint.weights)
    if differences:
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise ValueError(
            f"{checkpoint.path} does not fit the plans beside it: {', '.join(differences[:3])}{more}; put back the "
            "plans.json that it was trained with, or use the version of unetr_nnunet that trained it"
        )
    for name, tensor in checkpoint.weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(
                f"{checkpoint.path} holds weights that are not finite ({name}), so its training has failed: choose "
                "another fold or checkpoint"
            )


def _orientation(reader: str, checkpoints: Sequence[Checkpoint]) -> tuple[str, str]:
    """Return the orientation code of the arrays in training, and where it is known from."""
    if reader in READER_ORIENTATIONS:
        return READER_ORIENTATIONS[reader], f"reader {reader}"
    stored = next((each.array_orientation for each in checkpoints if each.array_orientation), None)
    if stored:
        return stored, "stored at training"
    return ASSUMED_ORIENTATION, (
        f"assumed {ASSUMED_ORIENTATION}: reader {reader} keeps the orientation of each file, and the checkpoint names "
        "none"
    )
