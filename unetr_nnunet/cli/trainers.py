"""List the tokens that a trainer's name is built from, or explain one name.

example:
  unetr_nnunet trainers
  unetr_nnunet trainers nnUNetTrainerUNETR_Tiny_100epochs_seed1
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("name", nargs="?", help="a trainer name to explain")


def run(arguments: argparse.Namespace) -> int:
    """Print the tokens, or the meaning of one name."""
    from unetr_nnunet.trainers.names import BASE_NAME, TOKEN_GROUPS, NumberToken, explain, parse_trainer_name

    if arguments.name:
        for field, value, meaning in explain(parse_trainer_name(arguments.name)):
            print(f"{field:<14}{value:<16}{meaning}")
        return 0
    print(f"A trainer's name is {BASE_NAME} and any of these tokens, joined by '_', in this order:\n")
    for group in TOKEN_GROUPS:
        if isinstance(group, NumberToken):
            print(f"{group.field:<14}{group.form.format('<N>'):<16}{group.explanation}")
        else:
            for token, meaning in group.explanations.items():
                print(f"{group.field:<14}{token or '(none)':<16}{meaning}")
    print(f"\nexample: nnUNetv2_train 17 3d_fullres 0 -tr {BASE_NAME}_100epochs_seed1")
    return 0
