"""The data sets that ``convert`` knows, one module each: a module added here is a new sub-command."""

import pkgutil
from importlib import import_module

from unetr_nnunet.dataset_conversion.data_set import DataSet

_FOUND: list[DataSet] = [import_module(f"{__name__}.{info.name}").DATA_SET for info in pkgutil.iter_modules(__path__)]

DATA_SETS: dict[str, DataSet] = {
    data_set.command: data_set for data_set in sorted(_FOUND, key=lambda data_set: data_set.dataset_id)
}
"""By their name on the command line, BTCV first."""
