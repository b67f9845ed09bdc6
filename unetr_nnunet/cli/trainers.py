"""List the tokens that a trainer's name is built from and the architectures that are installed, or explain one name.

example:
  unetr_nnunet trainers
  unetr_nnunet trainers nnUNetTrainerUNETR_Tiny_100epochs_seed1
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("name", nargs="?", help="a trainer name to explain")


def run(arguments: argparse.Namespace) -> int:
    """Print the tokens and architectures, or the meaning of one name."""
    from unetr_nnunet.architectures.registry import problems, registrations
    from unetr_nnunet.trainers.names import BASE_NAME, OPEN_NAME, describe_tokens, explain, parse_trainer_name
    from unetr_nnunet.trainers.tokens import NumberToken, token_groups

    if arguments.name:
        settings = parse_trainer_name(arguments.name)
        for field, value, meaning in explain(settings):
            print(f"{field:<27}{value:<16}{meaning}")
        print(f"\n{describe_tokens(settings.architecture)}")
        return 0
    print(f"A trainer's name is {BASE_NAME} and any of these tokens, joined by '_', in this order:\n")
    for group in token_groups():
        if isinstance(group, NumberToken):
            print(f"{group.field:<27}{group.example:<16}{group.explanation}")
        else:
            for token, meaning in group.explanations.items():
                print(f"{group.field:<27}{token or '(none)':<16}{meaning}")
    print(f"\nexample: nnUNetv2_train 17 3d_fullres 0 -tr {BASE_NAME}_100epochs_seed1")
    others = [one for one in registrations() if not one.is_unetr]
    if others:
        print(f"\nOther architectures: {OPEN_NAME}_<Name>, then a size of its own, and the tokens from recipe on\n")
        for one in others:
            print(f"{one.name:<30}{one.distribution} {one.version}")
        print(f"\n`unetr_nnunet trainers {OPEN_NAME}_{others[0].name}` explains one and lists its tokens")
    for problem in problems():
        print(f"\nnot available: {problem}")
    return 0
