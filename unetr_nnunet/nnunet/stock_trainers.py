"""Find nnU-Net's own trainers in its source, and those that leave the network to the plans.

Importing nnU-Net's trainers takes seconds: matplotlib, seaborn, torch.compile, all augmentations. The network of most
of them is what the plans say, by `nnUNetTrainer.build_network_architecture`; only those that have another are imported.
"""

import ast
import re
from pathlib import Path

import nnunetv2

BASE = "nnUNetTrainer"
METHOD = "build_network_architecture"


def stock_trainers() -> set[str]:
    """Return the class names in nnU-Net's folder of trainers."""
    return {name for source in _sources() for name in re.findall(r"^class (\w+)", source, re.MULTILINE)}


def _sources() -> list[str]:
    folder = Path(nnunetv2.__path__[0], "training", BASE)  # where nnU-Net looks before all other folders
    return [path.read_text(encoding="utf-8") for path in folder.rglob("*.py")]


def builds_from_plans(name: str) -> bool:
    """Return whether nnU-Net's own trainer of this name builds its network from the plans alone.

    It does if neither the module of the class nor those of its bases, down to `BASE`, speak of `METHOD`. Where the
    source does not tell for sure, because a class is not there, is there twice, or has a base from elsewhere, the
    answer is False.
    """
    if name == BASE:
        return True
    statement = re.compile(rf"^[ \t]*class[ \t]+{re.escape(name)}\b", re.MULTILINE)
    sources = _sources()
    if sum(len(statement.findall(source)) for source in sources) != 1:
        return False
    source = next(filter(statement.search, sources))
    bases = [
        ast.unparse(base)
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == name
        for base in node.bases
    ]
    return METHOD not in source and bool(bases) and all(map(builds_from_plans, bases))
