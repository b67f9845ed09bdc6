"""The module that nnU-Net imports from the folder in ``nnUNet_extTrainer``.

nnU-Net looks a trainer up with ``hasattr(module, name)``; the module-level ``__getattr__`` (PEP 562) makes the class of
any valid name on demand. The classes live in the installed package, so their identity does not depend on this module.
"""

from typing import Any

from unetr_nnunet.trainers.names import is_parsed


def __getattr__(name: str) -> Any:
    if not is_parsed(name):
        raise AttributeError(name)
    # a wrong token raises ValueError here, which hasattr lets through: the user sees the list of valid tokens
    from unetr_nnunet.trainers.factory import trainer_class

    return trainer_class(name)
