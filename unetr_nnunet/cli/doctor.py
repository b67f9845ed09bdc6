"""Check the installation: versions, paths, hardware, and whether nnU-Net finds a trainer.

example:
  unetr_nnunet doctor
  unetr_nnunet doctor --trainer nnUNetTrainerUNETR_Tiny_100epochs
"""

import argparse

from unetr_nnunet.trainers.names import BASE_NAME


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--trainer", default=BASE_NAME, help="trainer name to look up as nnU-Net does")


def run(arguments: argparse.Namespace) -> int:
    """Print one line per check; 1 where something is broken."""
    from unetr_nnunet.doctor import diagnose

    broken = 0
    for finding in diagnose(arguments.trainer):
        print(f"{finding.status:<7} {finding.subject:<20} {finding.fact}")
        if finding.remedy:
            print(f"{'':<28} -> {finding.remedy}")
        broken += finding.status == "broken"
    print(f"\n{broken} broken" if broken else "\nnothing broken")
    return 1 if broken else 0
