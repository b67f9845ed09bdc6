import pytest
import torch

from tests.inference.simulated_gpu import MIB, NetworkOn, SimulatedGPU
from unetr_nnunet.inference.batch_sizes import BatchSizes

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def sizes(device, most, network, windows):
    """Return the sizes of the batches in which that many windows are run."""
    batches, left = BatchSizes(device, most), windows
    while left:
        with batches.take(left) as size:
            network(torch.zeros(size, 1))
        left -= size
    return network.sizes


def network(monkeypatch, total_mib, fixed_mib=20, window_mib=50, search_mib=0, **options):
    gpu = SimulatedGPU(monkeypatch, total_mib * MIB, **options)
    return NetworkOn(gpu, torch.nn.Identity(), fixed_mib * MIB, window_mib * MIB, search_mib * MIB)


def test_on_a_cpu_all_are_of_one_size_but_the_last(monkeypatch):
    assert sizes(CPU, 6, network(monkeypatch, 1000), 20) == [6, 6, 6, 2]


def test_on_a_gpu_one_and_two_are_measured_and_then_what_fits_is_run(monkeypatch):
    """At most 80 % of 1000 MiB: 20 + 15 x 50 = 770 MiB would fit, and 8 is the power of two below."""
    assert sizes(GPU, 64, network(monkeypatch, 1000), 29) == [1, 1, 2, 2, 8, 8, 4, 2, 1]


def test_the_search_for_algorithms_is_not_measured(monkeypatch):
    """It took 700 MiB; counted, it would leave room for no more than a window or two."""
    assert sizes(GPU, 64, network(monkeypatch, 1000, search_mib=700), 30)[4] == 8


@pytest.mark.parametrize(("total_mib", "expected"), [(170, 1), (240, 2), (300, 4), (530, 8), (10_000, 16)])
def test_the_size_follows_the_memory(monkeypatch, total_mib, expected):
    found = sizes(GPU, 16, network(monkeypatch, total_mib), 60)
    assert max(found) == expected
    assert found.count(expected) > 2


def test_two_are_not_tried_where_only_one_is_sure_to_fit(monkeypatch):
    assert sizes(GPU, 16, network(monkeypatch, 110), 5) == [1] * 5


def test_memory_of_others_and_the_own_share_count(monkeypatch):
    assert max(sizes(GPU, 64, network(monkeypatch, 1000, taken=500 * MIB), 60)) == 4
    assert max(sizes(GPU, 64, network(monkeypatch, 1000, share=0.5), 60)) == 4


def test_memory_that_pytorch_holds_and_does_not_use_counts_as_free(monkeypatch):
    held = network(monkeypatch, 1000)
    held.gpu.reserved = 900 * MIB
    assert max(sizes(GPU, 64, held, 60)) == 8


def test_few_windows_need_no_measurement(monkeypatch):
    assert sizes(GPU, 64, network(monkeypatch, 1000), 1) == [1]
    assert sizes(GPU, 64, network(monkeypatch, 1000), 3) == [1, 1, 1]


def test_one_at_a_time_where_that_is_asked_for(monkeypatch):
    assert sizes(GPU, 1, network(monkeypatch, 1000), 3) == [1, 1, 1]


def test_workspaces_that_hide_the_cost_of_a_window_do_not_lead_to_a_huge_batch(monkeypatch):
    """A window's own 1 KiB is not believed beside 400 MiB of workspace."""
    gpu = SimulatedGPU(monkeypatch, 10_000 * MIB)
    assert max(sizes(GPU, 2**20, NetworkOn(gpu, torch.nn.Identity(), 400 * MIB, 1024), 10_000)) == 128


def test_a_batch_that_fails_is_not_measured(monkeypatch):
    SimulatedGPU(monkeypatch, 1000)
    batches = BatchSizes(GPU, 8)
    for _ in range(3):
        with pytest.raises(torch.OutOfMemoryError), batches.take(9):
            raise torch.OutOfMemoryError("CUDA out of memory")
    with batches.take(9) as size:
        assert size == 1
