"""Print the shell lines that make nnU-Net find our trainers and its folders.

example:
  eval "$(unetr_nnunet env)"
  nnUNetv2_train 17 3d_fullres 0 -tr nnUNetTrainerUNETR
"""

import argparse
import shlex
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--root",
        type=Path,
        default=Path("nnUNet_data"),
        help="folder for nnUNet_raw, nnUNet_preprocessed and nnUNet_results where these are unset "
        "(default: ./nnUNet_data)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print one export line per variable."""
    from unetr_nnunet.nnunet_hook.environment import nnunet_variables

    for name, value in nnunet_variables(arguments.root).items():
        print(f"export {name}={shlex.quote(value)}")
    return 0
