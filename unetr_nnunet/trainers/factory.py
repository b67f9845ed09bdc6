"""Make the trainer class that a name describes."""

import functools

from unetr_nnunet.trainers.names import TrainerName, is_parsed, parse_trainer_name
from unetr_nnunet.trainers.unetr_trainer import nnUNetTrainerUNETR


@functools.cache
def trainer_class(name: str) -> type[nnUNetTrainerUNETR]:
    """Return the trainer class of a name; the same name gives the same class.

    Args:
        name: a trainer name, see `unetr_nnunet.trainers.names`.

    Raises:
        ValueError: if the name is not valid; the message lists the valid tokens.
    """
    settings = parse_trainer_name(name)
    if settings == TrainerName():
        return nnUNetTrainerUNETR
    return type(name, (nnUNetTrainerUNETR,), {"settings": settings, "__module__": __name__})


def __getattr__(name: str) -> type[nnUNetTrainerUNETR]:
    """Return the trainer class of any valid name: pickle looks a class up in its module, also in another process."""
    if is_parsed(name):
        try:
            return trainer_class(name)
        except ValueError as error:
            raise AttributeError(str(error)) from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
