"""`unetr_nnunet convert btcv` against reading and rewriting the same files with SimpleITK, on the same two cores.

Both run as a fresh command with two workers, one after the other, several times over; the page cache is warm for both.
Processor seconds stand beside the wall-clock time, because they hardly depend on what else the machine does.
Peak memory is the resident memory of the whole process tree, sampled every 20 ms. The converter checks every voxel of
every file; the rewrite checks nothing.

    python benchmarks/convert_speed.py --training 3 --testing 2               a small run on the full-size phantom
    python benchmarks/convert_speed.py --training 30 --testing 20             all of BTCV's cases
    python benchmarks/convert_speed.py --source RawData --results table.md    a download of your own
"""

import argparse
import datetime
import multiprocessing
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import psutil

WORKERS = 2
SAMPLE_INTERVAL_S = 0.02
RESULTS = Path(__file__).parent / "results" / "convert_speed.md"


@dataclass
class Measurement:
    """Times and peak memory of one way of converting, a value for each run."""

    times_s: list[float] = field(default_factory=list)
    cpu_times_s: list[float] = field(default_factory=list)
    peaks_mib: list[float] = field(default_factory=list)

    @property
    def time_s(self) -> float:
        """Median time."""
        return statistics.median(self.times_s)


def main() -> None:
    """Measure and write the table."""
    arguments = parse_arguments()
    if arguments.rewrite:
        rewrite(*arguments.rewrite)
        return
    with tempfile.TemporaryDirectory(dir=arguments.work) as name:
        work = Path(name)
        source = arguments.source or make_phantom(arguments.phantom or work / "phantom", arguments)
        archive = work / "RawData.zip"
        pack(source, archive)
        ways = {
            "SimpleITK read and rewrite, folder": [*this_script(), "--rewrite", source],
            "SimpleITK read and rewrite, zip (unpacked first)": [*this_script(), "--rewrite", archive],
            "convert btcv, folder, hard links": [*converter(), source, "--link", "hard", "--output"],
            "convert btcv, folder, copies": [*converter(), source, "--link", "copy", "--output"],
            "convert btcv, zip": [*converter(), archive, "--output"],
        }
        measurements = {way: Measurement() for way in ways}
        for _ in range(arguments.runs):
            for way, command in ways.items():
                target = work / "target"
                measure([*map(str, command), str(target)], measurements[way])
                shutil.rmtree(target)
        table = describe(source, measurements, arguments)
    print(table)
    arguments.results.write_text(table, encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--training", type=int, default=3, help="phantom training cases (default: 3)")
    parser.add_argument("--testing", type=int, default=2, help="phantom test cases (default: 2)")
    parser.add_argument("--size", default="full", help="phantom size (default: full)")
    parser.add_argument("--phantom", type=Path, help="folder in which the phantom is made and kept")
    parser.add_argument("--source", type=Path, help="an extracted download to use instead of the phantom")
    parser.add_argument("--runs", type=int, default=3, help="repetitions, the median is reported (default: 3)")
    parser.add_argument("--work", type=Path, help="where to put temporary files, on the source's file system")
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"table to write (default: {RESULTS.name})")
    parser.add_argument("--rewrite", type=Path, nargs=2, metavar=("SOURCE", "OUT"), help=argparse.SUPPRESS)
    return parser.parse_args()


def this_script() -> list[str]:
    """Return the command that runs this file again."""
    return [sys.executable, str(Path(__file__).resolve())]


def converter() -> list[str]:
    """Return the converter's command."""
    return [sys.executable, "-m", "unetr_nnunet.cli.main", "convert", "btcv", "--workers", str(WORKERS)]


def make_phantom(folder: Path, arguments: argparse.Namespace) -> Path:
    """Write the phantom, or complete one that was begun."""
    from unetr_nnunet.phantom import write_phantom

    return write_phantom(
        folder,
        size=arguments.size,
        training=arguments.training,
        testing=arguments.testing,
        workers=WORKERS,
        show_progress=True,
    )


def pack(source: Path, archive: Path) -> None:
    """Zip the extracted folder as the download is zipped."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for file in sorted(source.rglob("*.nii.gz")):
            opened.write(file, Path("RawData") / file.relative_to(source))


def rewrite(source: Path, out: Path) -> None:
    """Read and write every file with SimpleITK, as converters usually do."""
    if source.is_file():
        with zipfile.ZipFile(source) as archive:
            archive.extractall(out / "unpacked")
        source = out / "unpacked"
    files = [(file, out / f"{file.parent.name}_{file.name}") for file in sorted(source.rglob("*.nii.gz"))]
    out.mkdir(exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        pool.starmap(rewrite_file, files, chunksize=1)


def rewrite_file(source: Path, target: Path) -> None:
    """Read and write one file on one core."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    sitk.WriteImage(sitk.ReadImage(str(source)), str(target))


def measure(command: list[str], measurement: Measurement) -> None:
    """Run a command to its end and note its time and memory."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("nnUNet")}
    start, start_cpu_s = time.perf_counter(), children_cpu_s()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as process:
        peaks: list[int] = [0]
        sampler = threading.Thread(target=sample_memory, args=(process, peaks))
        sampler.start()
        status = process.wait()
        measurement.times_s.append(time.perf_counter() - start)
        sampler.join()
    measurement.cpu_times_s.append(children_cpu_s() - start_cpu_s)
    if status:
        raise RuntimeError(f"{' '.join(command)} exited with {status}")
    measurement.peaks_mib.append(peaks[0] / 2**20)


def children_cpu_s() -> float:
    """Return the processor time of all ended child processes, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def sample_memory(process: "subprocess.Popen[bytes]", peaks: list[int]) -> None:
    """Keep the largest resident memory of a process and its descendants in ``peaks[0]``, in bytes."""
    while process.poll() is None:
        resident = 0
        try:
            root = psutil.Process(process.pid)
            for member in (root, *root.children(recursive=True)):
                resident += member.memory_info().rss
        except psutil.NoSuchProcess:
            pass
        peaks[0] = max(peaks[0], resident)
        time.sleep(SAMPLE_INTERVAL_S)


def describe(source: Path, measurements: dict[str, Measurement], arguments: argparse.Namespace) -> str:
    """Return the table as Markdown."""
    files = sorted(source.rglob("*.nii.gz"))
    size_gib = sum(file.stat().st_size for file in files) / 2**30
    images = sum(file.parent.name == "img" for file in files)
    baselines = [measurement for way, measurement in measurements.items() if way.startswith("SimpleITK")]
    lines = [
        "# Conversion speed",
        "",
        f"{images} images and {len(files) - images} labels, {size_gib:.2f} GiB compressed, from "
        f"{'a download' if arguments.source else f'the phantom, size {arguments.size}'}; "
        f"{WORKERS} workers each, median of {arguments.runs} interleaved runs, "
        f"{os.cpu_count()} cores ({cpu_name()}), Python {platform.python_version()}, {datetime.date.today()}.",
        "Made by `python benchmarks/convert_speed.py`; what is measured stands at the top of that file.",
        "",
        "| way | time (s) | range (s) | times faster | CPU time (s) | times less | peak memory (MiB) |",
        "|---|---|---|---|---|---|---|",
    ]
    for way, measurement in measurements.items():
        baseline = baselines["zip" in way]
        cpu_s = statistics.median(measurement.cpu_times_s)
        lines.append(
            f"| {way} | {measurement.time_s:.1f} | {min(measurement.times_s):.1f}-{max(measurement.times_s):.1f} "
            f"| {baseline.time_s / measurement.time_s:.1f} | {cpu_s:.1f} "
            f"| {statistics.median(baseline.cpu_times_s) / cpu_s:.1f} | {max(measurement.peaks_mib):.0f} |"
        )
    return "\n".join(lines) + "\n"


def cpu_name() -> str:
    """Return the processor's model name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
