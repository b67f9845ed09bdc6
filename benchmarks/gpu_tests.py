"""The tests that need a GPU, as a stage of `benchmarks.gpu`."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.gpu_stage import GIB, NOT_ON_A_CPU, ROOT, Stage, run_stage

GIB_A_PROCESS = 16
MOST_PROCESSES = 6


def run_tests(stage: Stage) -> None:
    """Run the tests that are marked ``gpu``; without one pytest still collects them, and skips."""
    files = [str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text("utf-8")]
    report = stage.work / "tests.xml"
    options = ["-m", "gpu", "-q", "-p", "xdist", "-p", "no:cacheprovider", f"--junitxml={report}"]
    if stage.on_gpu:
        import torch

        free_gib = torch.cuda.mem_get_info()[0] / GIB
        options += ["-n", str(max(1, min(MOST_PROCESSES, int(free_gib / GIB_A_PROCESS))))]
    environment = {**stage.environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # whatever this machine has more
    if not stage.on_gpu:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    words = [sys.executable, "-m", "pytest", *options, *files]
    code = subprocess.run(words, cwd=ROOT, env=environment, check=False).returncode
    if not report.is_file():
        raise RuntimeError(f"pytest ended with exit code {code} before it ran a test")
    _report(stage, report, code)


def _report(stage: Stage, path: Path, code: int) -> None:
    cases = list(ElementTree.parse(path).iter("testcase"))
    skipped = sum(case.find("skipped") is not None for case in cases)
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    for case in failed:
        reason = next(each for each in case if each.tag in ("failure", "error")).get("message", "")
        stage.report({"tests": case.get("name")}, reason.splitlines()[0] if reason else "failed")
    passed = len(cases) - skipped - len(failed)
    missed = f"pytest ended with exit code {code}" if code else ""
    if stage.on_gpu and not passed:
        missed = missed or "no test ran"
    words = {"passed": passed if stage.on_gpu else NOT_ON_A_CPU, "failed": len(failed), "skipped": skipped}
    stage.report({"tests": "all that are marked gpu", **words}, missed)


if __name__ == "__main__":
    sys.exit(run_stage(run_tests))
