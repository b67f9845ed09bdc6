"""Time the phantom: seconds per case on one core and peak memory, each size in a fresh process.

python benchmarks/phantom_speed.py benchmarks/results/phantom_speed.md
"""

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CASES = {"demo": (1, 2, 3, 4, 5, 6), "half": (1, 2, 3), "full": (1, 2, 3)}


def measure(size: str) -> dict[str, object]:
    """Write the cases of one size on one core; call in a process of its own."""
    # before the libraries start their threads, so that those are held to the same core
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import numpy
    import scipy

    from unetr_nnunet.phantom.case import generate_case
    from unetr_nnunet.phantom.download import write_case

    generate_case(40, "demo", 0)  # first-use costs of the libraries are not the phantom's
    wall_s, cpu_s = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in CASES[size]:
            start = time.perf_counter(), time.process_time()
            write_case(Path(folder), number, size, 0)
            wall_s.append(time.perf_counter() - start[0])
            cpu_s.append(time.process_time() - start[1])
    return {
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "versions": f"Python {platform.python_version()}, numpy {numpy.__version__}, scipy {scipy.__version__}",
    }


def cpu_name() -> str:
    """Return the processor's name as Linux gives it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def report(results: dict[str, dict[str, object]]) -> str:
    """Return the result page."""
    lines = [
        "# Speed of the phantom",
        "",
        f"`python benchmarks/phantom_speed.py`, {datetime.date.today().isoformat()}. One core of: {cpu_name()}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end. {results['demo']['versions']}.",
        "Painting and writing the compressed files; each size in a fresh process. CPU seconds are what the case costs;",
        "wall seconds are longer where other programs shared the core.",
        "",
        "| size | cases | CPU s per case, median (max) | wall s per case, median (max) | peak memory GiB |",
        "|---|---|---|---|---|",
    ]
    for size, result in results.items():
        figures = [f"{statistics.median(result[key]):.1f} ({max(result[key]):.1f})" for key in ("cpu_s", "wall_s")]
        lines.append(f"| {size} | {len(CASES[size])} | {figures[0]} | {figures[1]} | {result['peak_gib']:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure all sizes, or one of them for the parent process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, nargs="?", help="Markdown file to write")
    parser.add_argument("--one", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one)))
        return
    results = {}
    for size in CASES:
        done = subprocess.run([sys.executable, __file__, "--one", size], check=True, capture_output=True, text=True)
        results[size] = json.loads(done.stdout)
    page = report(results)
    print(page)
    if arguments.result:
        arguments.result.write_text(page)


if __name__ == "__main__":
    main()
