"""Build the network of a model folder as nnU-Net's own predictor does, and say what stands in the way.

Plans name classes by their import path, and nnU-Net calls whatever it finds there with arguments from the plans: a
foreign ``plans.json`` could name ``torch.hub.load``, say. So only network parts are let through, of the package that
nnU-Net takes its networks from and of torch. The builder that our plans name makes installed architectures only.
"""

import contextlib
import functools
import inspect
import io
import logging
import os
import pydoc
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from unetr_nnunet.architectures.planned import PLANNED_NETWORKS, planned_version_note
from unetr_nnunet.nnunet.checkpoint import in_brief
from unetr_nnunet.nnunet.stock_trainers import builds_from_plans
from unetr_nnunet.nnunet_hook.environment import EXTERNAL_TRAINERS, nnunet_variables
from unetr_nnunet.trainers.names import is_parsed, parse_trainer_name
from unetr_nnunet.trainers.network import build_named_network

logger = logging.getLogger(__name__)

PACKAGES = ("dynamic_network_architectures", "torch")
"""Where the parts of nnU-Net's networks come from."""


def build_network(
    trainer_name: str,
    plans: PlansManager,
    configuration: ConfigurationManager,
    in_channels: int,
    out_channels: int,
    *,
    trust: bool = False,
) -> nn.Module:
    """Build the network of a trainer, without deep supervision.

    Args:
        trainer_name: of ours, of nnU-Net's, or of one from the folders in ``nnUNet_extTrainer``.
        plans: the model's plans.
        configuration: the configuration that was trained.
        in_channels: image channels.
        out_channels: classes with background, or regions.
        trust: let the plans name any class.

    Returns:
        The network in evaluation mode on the CPU, with random weights.

    Raises:
        ValueError: if there is no such trainer or it cannot be imported, if the plans name something else than a
            network, or if building it fails.
    """
    if is_parsed(trainer_name):
        _check_installed(trainer_name, configuration)
    elif not trust:  # ours call nothing that the plans name
        _check_named_classes(configuration)
    build = _builder(trainer_name, plans, configuration)
    try:
        with quiet():
            network = build(in_channels, out_channels, enable_deep_supervision=False)
    except Exception as error:  # whatever a network raises about its arguments
        raise ValueError(f"the network of {trainer_name} cannot be built from the plans ({in_brief(error)})") from error
    return network.eval()


def _check_installed(trainer_name: str, configuration: ConfigurationManager) -> None:
    """Name the package of the architecture where it is not installed, and warn where its version has changed."""
    planned = configuration.network_arch_class_name, configuration.network_arch_init_kwargs
    try:
        architecture = parse_trainer_name(trainer_name).architecture
    except ValueError:
        planned_version_note(*planned)
        raise
    if (note := planned_version_note(*planned, architecture)) is not None:
        logger.warning(note)


def _builder(name: str, plans: PlansManager, configuration: ConfigurationManager) -> Callable[..., nn.Module]:
    """Return what a trainer builds its network with, without importing the trainer where its name tells enough."""
    if is_parsed(name):
        return functools.partial(build_named_network, parse_trainer_name(name), configuration)
    described = (
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
    )
    if builds_from_plans(name):
        return lambda *channels, enable_deep_supervision: get_network_from_plans(
            *described, *channels, deep_supervision=enable_deep_supervision
        )
    build = _find_trainer(name).build_network_architecture
    if "plans_manager" in inspect.signature(build).parameters:
        return functools.partial(build, plans, configuration)
    return functools.partial(build, *described)  # as it was before nnU-Net 2.7


def _find_trainer(name: str) -> Any:
    """Return a trainer class as nnU-Net finds it."""
    os.environ[EXTERNAL_TRAINERS] = nnunet_variables(Path())[EXTERNAL_TRAINERS]
    try:
        with quiet():
            from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

            return recursive_find_trainer_class_by_name(name)
    except Exception as error:  # whatever a foreign trainer module raises while it is imported
        missing = isinstance(error, RuntimeError) and "Could not find requested" in str(error)
        reason = "is not installed here" if missing else f"cannot be imported ({in_brief(error)})"
        raise ValueError(
            f"the model's trainer {name} {reason}: install what it comes with, and name the folder of its module in "
            f"{EXTERNAL_TRAINERS}"
        ) from error


def _check_named_classes(configuration: ConfigurationManager) -> None:
    arguments = configuration.network_arch_init_kwargs
    named = [arguments.get(key) for key in configuration.network_arch_init_kwargs_req_import]
    for name in (configuration.network_arch_class_name, *named):
        if name is not None and not _is_network_part(name):
            raise ValueError(
                f"the plans build their network with {name}, which is no network part of {' or '.join(PACKAGES)} and "
                "could run any code; where you trust their source, --trust-checkpoint uses it nevertheless"
            )


def _is_network_part(name: Any) -> bool:
    if name in PLANNED_NETWORKS:  # which builds nothing but installed architectures
        return True
    if not isinstance(name, str) or name.split(".")[0] not in PACKAGES:
        return False
    try:
        with quiet():
            found = pydoc.locate(name)
    except pydoc.ErrorDuringImport:
        return False
    # a class that has moved is not found; nnU-Net then looks for its name among the architectures of the package
    return found is None or (inspect.isclass(found) and issubclass(found, nn.Module))


def differing_tensors(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> list[str]:
    """Return in words how weights do not fit a network, tensor by tensor; an empty list where they do."""
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    return [
        *(f"{name} is missing" for name in expected if name not in given),
        *(
            f"{name} is {given[name]} where the plans make it {shape}"
            for name, shape in expected.items()
            if given.get(name, shape) != shape
        ),
        *(f"{name} is not in the network of the plans" for name in given if name not in expected),
    ]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep away what nnU-Net prints, and its warnings about old plans: what goes wrong is raised."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
