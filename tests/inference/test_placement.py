import torch

from unetr_nnunet.inference.placement import Placement


def test_smaller_placements_end_on_the_cpu():
    placement, words = Placement.on(torch.device("cuda")), []
    assert placement.results.type == "cuda"
    while (smaller := placement.smaller()) is not None:
        placement = smaller[0]
        words.append(smaller[1])
    assert placement == Placement.on(torch.device("cpu"))
    assert words == ["keeping the logits in main memory", "running one window at a time", "running on the CPU"]


def test_windows_that_run_one_by_one_skip_that_step():
    in_main_memory, _ = Placement.on(torch.device("cuda"), one_by_one=True).smaller()
    assert in_main_memory.smaller()[1] == "running on the CPU"
