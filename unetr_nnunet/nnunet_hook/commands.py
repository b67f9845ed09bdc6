"""Console commands as a checkout or a plain folder of packages can run them: without their scripts."""

import sys
from importlib.metadata import entry_points


def without_script(name: str, *words: str) -> tuple[str, ...]:
    """Return a console command that calls what its script would call, in this Python.

    Args:
        name: of the command: ours, or one of an installed package.
        words: its arguments.
    """
    if name == "unetr_nnunet":  # a checkout need not be installed
        return (sys.executable, "-m", "unetr_nnunet.cli.main", *words)
    (entry,) = {(each.module, each.attr) for each in entry_points(group="console_scripts", name=name)}
    call = f"import sys; from {entry[0]} import {entry[1]} as main; sys.exit(main())"
    return (sys.executable, "-c", call, *words)
