"""Report which steps of a study failed, and why, from Snakemake's log and the steps' logs."""

import re
from collections.abc import Iterator
from pathlib import Path

_CONSEQUENCES = re.compile(
    r"background workers? (?:is|are) (?:no longer alive|6 feet under)|Abort event was set|ended with exit code"
)
"""Messages of a process that ends because another one has failed."""
_ERROR = re.compile(r"[\w.]*(?:[Ee]rror|Exception)(?:: .*)?")
"""The last line of a traceback, or what one of our commands says."""
_CHAINED = re.compile(r"(?:The|During handling of the) above exception")
"""What Python prints between an exception and the one that it led to."""
_DIED = "a process that loads or exports data died without a message, as when memory runs out"


def failed_steps(snakemake_log: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield name and log of every step that failed for good.

    Args:
        snakemake_log: what Snakemake has printed.
        folder: the study's.
    """
    failed: dict[Path, str] = {}
    for block in re.finditer(r"^Error in rule (\w+):\n((?:    .*\n)+)", snakemake_log + "\n", re.MULTILINE):
        log = re.search(r"^    log: (\S+)", block[2], re.MULTILINE)
        path = folder / log[1].rstrip(",") if log else folder / "logs" / "snakemake.log"
        done = re.search(r"^    output: (\S+)", block[2], re.MULTILINE)
        if not (done and (folder / done[1].rstrip(",")).exists()):  # else a later try has succeeded
            failed[path] = block[1]
    for path, name in failed.items():
        yield " ".join([name, *path.with_suffix("").parts[-2:]] if path.parent.name != "logs" else [name]), path


def cause(log: str) -> str:
    """Return the line of a step's log that says why it failed: the first error since its last command was started.

    A process that fails takes others with it, which then end with errors of their own. Of exceptions that led to one
    another the last is returned: it was raised for the reader.
    """
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    started = max((number for number, line in enumerate(lines) if line.startswith("$ ")), default=0)
    reason, chained, worker_died = "", False, False
    for line in lines[started:]:
        if _CHAINED.match(line):
            chained = True
        elif _ERROR.fullmatch(line):
            if reason and not chained:
                break
            reason = reason if _CONSEQUENCES.search(line) else line
            chained, worker_died = False, worker_died or "background worker" in line
    if reason or worker_died:
        return reason or _DIED
    return lines[-1] if lines else "its log is empty"


def describe_failures(folder: Path) -> str:
    """Return what failed in the study that has just ended with an error, with the causes and the logs."""
    log = folder / "logs" / "snakemake.log"
    text = log.read_text(encoding="utf-8", errors="replace")
    failures = list(failed_steps(text, folder))
    if not failures:
        last = "\n".join(text.splitlines()[-5:])
        return f"the workflow ended with an error; the end of {log}:\n{last}"
    lines = [f"{len(failures)} step(s) failed; all others that could run are done; the same command tries again:"]
    for name, path in failures:
        said = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        lines.append(f"  {name}: {cause(said)}\n    log: {path}")
    return "\n".join(lines)
