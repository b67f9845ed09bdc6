"""The ``unetr_nnunet`` command: finds the sub-command's file, runs it, turns errors into one readable line.

A sub-command is a module of this room with two functions: ``add_arguments(parser)`` and ``run(arguments) -> int``.
Nothing heavy is imported before a command is chosen, so that ``--help`` answers at once.
"""

import argparse
import contextlib
import importlib
import io
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from unetr_nnunet import __version__

COMMANDS: dict[str, str] = {
    "doctor": "check the installation: versions, paths, hardware, trainer look-up",
    "env": "print the shell lines that make nnU-Net find our trainers",
    "phantom": "write a synthetic abdominal CT data set in BTCV's download layout",
    "convert": "turn a download (BTCV, AMOS22, FLARE22, WORD, TotalSegmentator, OpenKBP) into nnU-Net's raw format",
    "plan": "choose token, patch and batch size of a UNETR for the memory of a GPU",
    "trainers": "list the trainer name tokens, or explain one trainer name",
    "import-weights": "turn a released UNETR checkpoint into an nnU-Net model folder, or a start for a training",
    "predict": "segment CTs with trained models, fast",
    "evaluate": "compare predictions with labels, organ by organ",
    "view": "look at CTs with label maps over them, in three planes and 3-D, in a browser",
    "report": "write one HTML page: which model is better, by how much, how certain that is, and where each goes wrong",
    "crossval": "run a whole study, from trainings and ensembles to test set and report, on this machine or on Slurm",
    "demo": "run the whole pipeline on the phantom, in minutes, on a CPU",
}

EPILOG = """\
example:
  unetr_nnunet convert btcv RawData.zip      BTCV download -> nnUNet_raw/Dataset017_BTCV
  eval "$(unetr_nnunet env)"                 then the nnUNetv2_* commands know our trainers

`unetr_nnunet COMMAND --help` describes a command.
"""


def build_parser(command: str | None) -> argparse.ArgumentParser:
    """Return the parser of one command, or the top-level one where ``command`` is None."""
    if command is None:
        listing = "\n".join(f"  {name:<16}{text}" for name, text in COMMANDS.items())
        parser = argparse.ArgumentParser(
            prog="unetr_nnunet",
            description=f"UNETR inside nnU-Net v2.\n\ncommands:\n{listing}",
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("--version", action="version", version=f"unetr_nnunet {__version__}")
        parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the commands above")
        return parser
    module = importlib.import_module(f"unetr_nnunet.cli.{command.replace('-', '_')}")
    parser = argparse.ArgumentParser(
        prog=f"unetr_nnunet {command}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    module.add_arguments(parser)
    parser.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments after the program's name; ``sys.argv`` if None.

    Returns:
        0 done, 1 the work failed or found problems, 130 interrupted. argparse itself exits with 2 on wrong usage.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # as stderr: a file name that is no UTF-8 ends nothing
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr is None:  # closed by who started the command
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 -- open as long as the process
    given = list(sys.argv[1:] if argv is None else argv)
    command = given[0] if given and given[0] in COMMANDS else None
    if command is None:
        build_parser(None).parse_args(given)
        return 2
    arguments = build_parser(command).parse_args(given[1:])
    try:
        with _log_to_stderr():
            return int(arguments.run(arguments))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if arguments.debug:
            traceback.print_exc()
            return 1
        expected = isinstance(error, ValueError | OSError | RuntimeError)
        name = "" if expected else f"unexpected {type(error).__name__}: "
        print(f"error: {name}{error}" + ("" if expected else " (--debug shows where)"), file=sys.stderr)
        return 1


@contextlib.contextmanager
def _log_to_stderr() -> Iterator[None]:
    """Print what the rooms log as plain lines on stderr while a command runs."""
    logger, handler = logging.getLogger("unetr_nnunet"), logging.StreamHandler()
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


if __name__ == "__main__":
    sys.exit(main())
