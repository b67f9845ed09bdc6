"""Time and peak memory of our UNETR beside MONAI's, with the same weights, as a Markdown table.

Both networks run in turn (A B A B ...), so that a change of the machine's load meets both; a time is the median over
the rounds. Memory is measured in a fresh process for each figure: on a CPU the growth of the resident set over the
built network, on CUDA torch's own peak. A training step is forward, backward and AdamW.

    python benchmarks/unetr_speed.py --rounds 5
"""

import argparse
import datetime
import gc
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import monai
import psutil
import torch
from monai.networks.nets import UNETR as MonaiUNETR  # noqa: N811

from unetr_nnunet.architectures.build import build_unetr
from unetr_nnunet.architectures.monai_weights import convert_monai_state_dict

RESULTS = Path(__file__).parent / "results" / "unetr_speed.md"
CASES = ("96x96x96/1", "96x96x96/2", "48x192x192/1", "48x192x192/2")
OUT_CHANNELS = 14
MIB = 2**20


def build(name: str, patch_size: tuple[int, ...], device: str) -> torch.nn.Module:
    """Return one of the two networks, at the paper's size."""
    if name == "monai":
        return MonaiUNETR(1, OUT_CHANNELS, patch_size).to(device)
    return build_unetr(patch_size, None, 1, OUT_CHANNELS, taps="monai").to(device)


def jobs(network: torch.nn.Module, image: torch.Tensor, dtype: torch.dtype) -> dict[str, Callable[[], None]]:
    """Return the two things that are measured, ready to call."""
    autocast = {"device_type": image.device.type, "dtype": dtype, "enabled": dtype != torch.float32}
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    scaler = torch.amp.GradScaler(image.device.type, enabled=dtype == torch.float16)

    def forward() -> None:
        with torch.inference_mode(), torch.autocast(**autocast):
            network(image)
        _wait(image)

    def step() -> None:
        with torch.autocast(**autocast):
            loss = network(image).float().square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        _wait(image)

    trains = image.device.type != "cpu" or dtype == torch.float32  # as our trainers do, see `training_autocast`
    return {"forward": forward, **({"training step": step} if trains else {})}


def measure_times(case: str, device: str, dtype: torch.dtype, rounds: int) -> dict[tuple[str, str], list[float]]:
    """Return seconds of each round after a warm-up, by (network, job)."""
    patch_size, batch = parse(case)
    monai_network, ours = build("monai", patch_size, device), build("ours", patch_size, device)
    ours.load_state_dict(convert_monai_state_dict(monai_network.state_dict()))
    image = torch.randn(batch, 1, *patch_size, device=device)
    todo = {"monai": jobs(monai_network, image, dtype), "ours": jobs(ours, image, dtype)}
    seconds: dict[tuple[str, str], list[float]] = {}
    for round_number in range(rounds + 1):
        for job in todo["ours"]:
            for name in ("monai", "ours"):
                gc.collect()
                start = time.perf_counter()
                todo[name][job]()
                if round_number:
                    seconds.setdefault((name, job), []).append(time.perf_counter() - start)
    return seconds


def measure_memory(name: str, case: str, device: str, dtype: torch.dtype, job: str) -> float:
    """Return the peak memory of a job in MiB beyond what the built network takes. Call in a fresh process."""
    patch_size, batch = parse(case)
    network = build(name, patch_size, device)
    image = torch.randn(batch, 1, *patch_size, device=device)
    job_function = jobs(network, image, dtype)[job]
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        job_function()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    before = psutil.Process().memory_info().rss
    Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak of building the network
    job_function()
    status = Path("/proc/self/status").read_text()
    peak_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return (peak_kib * 1024 - before) / MIB


def parse(case: str) -> tuple[tuple[int, ...], int]:
    """Return patch size and batch size of a case such as ``96x96x96/2``."""
    patch, batch = case.split("/")
    return tuple(int(axis) for axis in patch.split("x")), int(batch)


def settings() -> list[tuple[str, torch.dtype]]:
    """Return the (device, dtype) pairs worth measuring here: bf16 only where the hardware computes in it."""
    found = [("cpu", torch.float32)]
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if "avx512_bf16" in flags or "amx_bf16" in flags:
        found.append(("cpu", torch.bfloat16))
    if torch.cuda.is_available():
        found += [("cuda", dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16)]
    return found


def rows(case: str, device: str, dtype: torch.dtype, rounds: int) -> list[str]:
    """Measure one case and return its table rows."""
    seconds = measure_times(case, device, dtype, rounds)
    dtype_name = str(dtype).removeprefix("torch.")
    lines = []
    for job in dict.fromkeys(job for _, job in seconds):
        monai_s, ours_s = (statistics.median(seconds[name, job]) for name in ("monai", "ours"))
        memory = {}
        for name in ("monai", "ours"):
            command = [sys.executable, __file__, "--memory", name, case, device, dtype_name, job]
            memory[name] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        lines.append(
            f"| {device} | {dtype_name} | {case.replace('/', ', batch ')} | {job} | {monai_s:.3f} | {ours_s:.3f} "
            f"| {monai_s / ours_s:.2f} | {memory['monai']:.0f} | {memory['ours']:.0f} |"
        )
    return lines


def machine() -> str:
    """Return one line about hardware and versions."""
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(": ")[1] for line in lines if line.startswith("model name")), model)
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{model}, {psutil.cpu_count()} cores, {torch.get_num_threads()} threads used, "
        f"{torch.backends.cpu.get_cpu_capability()}{gpu}; torch {torch.__version__}, MONAI {monai.__version__}; "
        f"{datetime.date.today()}; load average {psutil.getloadavg()[0]:.1f}"
    )


def _wait(image: torch.Tensor) -> None:
    if image.device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Measure everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cases", nargs="+", default=CASES)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--memory", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        name, case, device, dtype, job = arguments.memory
        print(measure_memory(name, case, device, getattr(torch, dtype), job))
        return
    torch.set_num_threads(arguments.threads)
    lines = [
        "# Our UNETR beside MONAI's",
        "",
        "Written by `benchmarks/unetr_speed.py`, whose docstring says how. Paper size, same weights, 14 outputs.",
        f"Medians of {arguments.rounds} rounds. {machine()}.",
        "",
        "| device | dtype | patch | job | MONAI, s | ours, s | times faster | MONAI, MiB | ours, MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for device, dtype in settings():
        for case in arguments.cases:
            lines += rows(case, device, dtype, arguments.rounds)
            arguments.output.write_text("\n".join(lines) + "\n")
            print(*lines[-2:], sep="\n", flush=True)


if __name__ == "__main__":
    main()
