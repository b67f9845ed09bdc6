"""Check an installation: what is installed, what is broken, and how to fix it."""

import contextlib
import importlib
import importlib.metadata
import io
import os
import platform
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from unetr_nnunet.architectures.registry import problems, registrations
from unetr_nnunet.nnunet_hook.environment import EXTERNAL_TRAINERS, FOLDERS, nnunet_variables, trainer_folder
from unetr_nnunet.trainers.names import BASE_NAME, is_parsed, parse_trainer_name

PACKAGE = "unetr_nnunet"
NOT_ALONE = {
    "torch": "install torch and torchvision together: pip install torch torchvision",
    "torchvision": "torch and torchvision must come from the same place: reinstall both, in one pip command",
    "nnunetv2": "",
}
"""Packages whose import is tried as well, and what to do where it fails; nnU-Net imports torchvision."""
GIB = 2**30
WORKER_GIB = 1.0
"""Memory that one augmentation worker takes at a patch of 48 x 192 x 192, batch 2, rounded up."""


@dataclass(frozen=True)
class Finding:
    """Outcome of one check.

    Attributes:
        subject: what was checked.
        status: "ok", "note" for something to know, "broken" for something that has to be mended.
        fact: what was found.
        remedy: what to do about it; empty where there is nothing to do.
    """

    subject: str
    status: str
    fact: str
    remedy: str = ""


def diagnose(trainer_name: str) -> Iterator[Finding]:
    """Yield the findings of all checks, one by one.

    Args:
        trainer_name: the trainer to look up.
    """
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield from _check_packages()
    yield from _check_architectures()
    yield from _check_trainer(trainer_name)
    yield from _check_folders()
    yield from _check_hardware()


def _check_packages() -> Iterator[Finding]:
    """Compare the packages that ours requires with those installed; say of the largest that they can be imported."""
    for text in importlib.metadata.requires(PACKAGE) or ():
        requirement = Requirement(text)
        name = requirement.name
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "broken", "not installed", f"pip install '{text}'")
            continue
        error = _import_error(name) if name in NOT_ALONE else None
        if not requirement.specifier.contains(version, prereleases=True):
            yield Finding(name, "broken", f"{version} is not {requirement.specifier}", f"pip install '{text}'")
        elif error:
            yield Finding(name, "broken", error, NOT_ALONE[name] or f"pip install '{text}'")
        elif name in NOT_ALONE:
            yield Finding(name, "ok", version)


def _check_architectures() -> Iterator[Finding]:
    for problem in problems():
        yield Finding("architectures", "broken", problem)
    if others := [str(one) for one in registrations() if not one.is_unetr]:
        yield Finding("architectures", "ok", f"beside UNETR's variants: {', '.join(others)}")


def _check_trainer(name: str) -> Iterator[Finding]:
    """Check a name of our grammar, or a class of stock nnU-Net or of somebody's folder, as nnU-Net looks it up."""
    try:
        if is_parsed(name):
            parse_trainer_name(name)
    except ValueError as error:
        yield Finding("trainer name", "broken", str(error), "unetr_nnunet trainers lists the tokens of a name")
        return
    listed = os.environ.get(EXTERNAL_TRAINERS, "").split(os.pathsep)
    if str(trainer_folder()) not in listed:
        fact = f"{EXTERNAL_TRAINERS} does not name {trainer_folder()}: nnUNetv2_train will not find {name}"
        yield Finding(EXTERNAL_TRAINERS, "note", fact, 'eval "$(unetr_nnunet env)" in this shell')
    else:
        yield Finding(EXTERNAL_TRAINERS, "ok", os.environ[EXTERNAL_TRAINERS])
    yield _look_up(name)


def _look_up(name: str) -> Finding:
    """Look the trainer up as nnU-Net does, with our folder in the variable."""
    before = os.environ.get(EXTERNAL_TRAINERS)
    os.environ[EXTERNAL_TRAINERS] = nnunet_variables(Path())[EXTERNAL_TRAINERS]
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            find = importlib.import_module("nnunetv2.utilities.find_objects").recursive_find_trainer_class_by_name
            trainer = find(name)
        ours = any(base.__name__ == BASE_NAME for base in trainer.__mro__)
        kind = f", with the settings of {trainer.settings}" if ours and not is_parsed(name) else ""
        return Finding("trainer look-up", "ok", f"nnU-Net finds {name} in {trainer.__module__}{kind}")
    except Exception as error:  # a foreign trainer module may raise anything
        fact = f"nnU-Net's look-up of {name} fails with {type(error).__name__}: {error}"
        return Finding(
            "trainer look-up", "broken", fact, f"fix the module it names, or take it out of {EXTERNAL_TRAINERS}"
        )
    finally:
        if before is None:
            del os.environ[EXTERNAL_TRAINERS]
        else:
            os.environ[EXTERNAL_TRAINERS] = before


def _check_folders() -> Iterator[Finding]:
    for variable in FOLDERS:
        value = os.environ.get(variable)
        if not value:
            yield Finding(variable, "note", "not set", 'eval "$(unetr_nnunet env)" sets it below ./nnUNet_data')
            continue
        folder = Path(value)
        existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
        if not os.access(existing, os.W_OK):
            yield Finding(variable, "broken", f"{existing} is not writable", f"choose another folder for {variable}")
            continue
        free_gib = shutil.disk_usage(existing).free / GIB
        made = "" if folder.exists() else " (does not exist yet)"
        yield Finding(variable, "ok", f"{folder}{made}, {free_gib:.0f} GiB free")


def _check_hardware() -> Iterator[Finding]:
    cores = os.cpu_count() or 1
    available_gib = psutil.virtual_memory().available / GIB
    yield Finding("memory", "ok", f"{available_gib:.1f} of {psutil.virtual_memory().total / GIB:.1f} GiB available")
    workers = int(os.environ.get("nnUNet_n_proc_DA", min(12, cores)))
    fitting = max(1, int(available_gib / 2 / WORKER_GIB))
    if workers > fitting:
        fact = f"{workers} augmentation workers may not fit into {available_gib:.1f} GiB"
        yield Finding("workers", "note", fact, f"export nnUNet_n_proc_DA={min(fitting, cores)}")
    else:
        yield Finding("workers", "ok", f"{workers} augmentation workers on {cores} cores")
    if _import_error("torch"):
        return
    yield from _check_accelerator()


def _check_accelerator() -> Iterator[Finding]:
    import torch

    from unetr_nnunet.trainers.precision import cpu_has_bfloat16

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            yield Finding(f"GPU {index}", "ok", f"{properties.name}, {properties.total_memory / GIB:.1f} GiB")
        if shutil.which(os.environ.get("CC", "gcc")) is None:
            yield Finding("compiler", "note", "torch.compile finds no C compiler", "install gcc, or nnUNet_compile=f")
    else:
        yield Finding("GPU", "note", "torch finds no GPU", "add -device cpu to nnUNetv2_train and nnUNetv2_predict")
    bfloat16 = "bfloat16 in hardware: predict uses it" if cpu_has_bfloat16() else "no bfloat16 in hardware"
    yield Finding("CPU", "ok", f"{torch.backends.cpu.get_cpu_capability()}, {bfloat16}")


def _import_error(module: str) -> str | None:
    """Return why a module cannot be imported, in one line, or None where it can."""
    importing: Callable[[str], object] = importlib.import_module
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside other packages
            importing(module)
    except Exception as error:
        return f"import fails with {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return None
