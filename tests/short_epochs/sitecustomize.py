"""Short epochs for every process that has this folder on PYTHONPATH: Python imports a module of this name as it starts.

A test of whole commands needs the training's course, not nnU-Net's 250 iterations per epoch.
"""

import functools
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

ITERATIONS_VARIABLE = "TEST_ITERATIONS_PER_EPOCH"
VALIDATION_ITERATIONS = 5


def shorten(trainer_class: Any) -> None:
    """Give each trainer that is made the iterations of the environment."""
    make = trainer_class.__init__

    @functools.wraps(make)  # nnU-Net inspects the signature
    def make_short(trainer: Any, *given: Any, **named: Any) -> None:
        make(trainer, *given, **named)
        trainer.num_iterations_per_epoch = int(os.environ[ITERATIONS_VARIABLE])
        trainer.num_val_iterations_per_epoch = VALIDATION_ITERATIONS

    trainer_class.__init__ = make_short


class TrainerFinder(MetaPathFinder):
    """Finds nnU-Net's trainer as usual, and shortens its epochs as soon as it is imported."""

    name = "nnunetv2.training.nnUNetTrainer.nnUNetTrainer"

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_shorten(module: ModuleType) -> None:
            execute(module)
            shorten(module.nnUNetTrainer)

        spec.loader.exec_module = execute_and_shorten  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, TrainerFinder())
