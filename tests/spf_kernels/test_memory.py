"""Large outputs live on recycled buffers, each with one tensor (and its views) at a time."""

import gc

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import spf_kernels
from spf_kernels import SPFFlatten
from spf_kernels.backends import native

from .helpers import make_case, needs_native

pytestmark = needs_native

MEBI = 2**20
# 4 MiB of float32
LARGE = (4, 256, 1024)


@pytest.fixture(autouse=True)
def empty_cache_of_usual_size():
    gc.collect()
    spf_kernels.empty_cache()
    limit = spf_kernels.cache_statistics()["limit_bytes"]
    yield
    spf_kernels.set_cache_limit(limit)
    spf_kernels.empty_cache()


def _large():
    return native._empty(LARGE, torch.float32)


def _statistics(name):
    return spf_kernels.cache_statistics()[name]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_freed_buffer_is_used_again(dtype):
    shape = (4, 512, 1024)
    first = native._empty(shape, dtype)
    address, hits = first.data_ptr(), _statistics("hits")
    assert first.shape == shape
    assert first.dtype == dtype
    assert first.is_contiguous()
    del first
    again = native._empty(shape, dtype)
    assert again.data_ptr() == address
    assert _statistics("hits") == hits + 1


def test_buffers_are_aligned_to_huge_pages():
    assert _large().data_ptr() % (2 * MEBI) == 0


def test_a_gradients_buffer_is_used_again_after_set_to_none():
    layer = SPFFlatten(4, 64, 128)
    maps = torch.randn(2, 4, 64, 64)
    layer(maps).sum().backward()
    address = layer.weight.grad.data_ptr()
    for _ in range(3):
        hits = _statistics("hits")
        layer.zero_grad(set_to_none=True)
        layer(maps).sum().backward()
        assert layer.weight.grad.data_ptr() == address
        assert _statistics("hits") > hits


def test_live_tensors_never_share_a_buffer():
    tensors = [_large() for _ in range(4)]
    for index, tensor in enumerate(tensors):
        tensor.fill_(index)
    del tensors[1]
    tensors += [_large().fill_(9), _large().fill_(10)]
    assert len({tensor.data_ptr() for tensor in tensors}) == len(tensors)
    assert [float(tensor.unique()) for tensor in tensors] == [0, 2, 3, 9, 10]


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t[1:, :2],
        lambda t: t.detach(),
        lambda t: t.view(torch.int32),
        lambda t: t.numpy(),
        lambda t: torch.utils.dlpack.from_dlpack(t),
        lambda t: t.untyped_storage(),
    ],
    ids=["slice", "detach", "other dtype", "numpy", "dlpack", "storage"],
)
def test_a_view_keeps_the_buffer(view):
    tensor = _large()
    address = tensor.data_ptr()
    kept = view(tensor)
    del tensor
    gc.collect()
    assert _large().data_ptr() != address
    del kept
    gc.collect()
    assert _large().data_ptr() == address


def test_saved_codes_keep_their_buffer():
    # 2 MiB of codes, which the backward reads again
    case = make_case((64, 64, 128, 4), activation="tanh")
    weight = case.weight.requires_grad_()
    codes = spf_kernels.functional.spf_flatten(case.maps, weight, None, "tanh")
    expected = torch.autograd.grad(codes.sum(), weight, retain_graph=True)[0]
    total = codes.sum()
    del codes
    others = [native._empty((64, 64, 128), torch.float32).fill_(float("nan")) for _ in range(3)]
    assert torch.equal(torch.autograd.grad(total, weight)[0], expected)
    assert len(others) == 3


def test_gradients_kept_from_an_earlier_step_do_not_change():
    layer = SPFFlatten(4, 64, 128)
    kept = []
    for step in range(3):
        maps = torch.full((2, 4, 64, 64), float(step))
        kept.append(torch.autograd.grad(layer(maps).sum(), layer.weight)[0])
    assert [float(gradient.unique()) for gradient in kept] == [0.0, 2.0, 4.0]


def test_statistics_follow_the_buffers():
    base = _statistics("used_bytes")
    misses = _statistics("misses")
    tensor = _large()
    assert _statistics("used_bytes") == base + 4 * MEBI
    assert _statistics("misses") == misses + 1
    assert _statistics("cached_bytes") == 0
    del tensor
    assert _statistics("used_bytes") == base
    assert _statistics("cached_bytes") == 4 * MEBI
    spf_kernels.empty_cache()
    assert _statistics("cached_bytes") == 0


def test_sizes_are_rounded_up_to_huge_pages():
    base = _statistics("used_bytes")
    tensor = native._empty((1, 1, 2**19 + 1), torch.float32)
    assert _statistics("used_bytes") == base + 4 * MEBI
    assert tensor.numel() == 2**19 + 1


def test_small_outputs_stay_with_torch():
    misses, hits = _statistics("misses"), _statistics("hits")
    native._empty((1, 1, 2**19 - 1), torch.float32)
    native._empty((0, 4, 4), torch.float32)
    assert (_statistics("misses"), _statistics("hits")) == (misses, hits)


def test_limit_zero_keeps_nothing():
    kept = _large()
    del kept
    spf_kernels.set_cache_limit(0)
    assert _statistics("cached_bytes") == 0
    tensor = _large()
    del tensor
    assert _statistics("cached_bytes") == 0
    assert _statistics("limit_bytes") == 0


def test_limit_is_kept_by_dropping_older_buffers():
    spf_kernels.set_cache_limit(9 * MEBI)
    tensors = [_large() for _ in range(5)]
    newest = tensors[-1].data_ptr()
    while tensors:
        tensors.pop(0)
        assert _statistics("cached_bytes") <= 9 * MEBI
    assert _statistics("cached_bytes") == 8 * MEBI
    assert _large().data_ptr() == newest
    # larger than the limit: never kept
    large = native._empty((4, 1024, 1024), torch.float32)
    del large
    assert _statistics("cached_bytes") == 8 * MEBI


def test_limit_from_the_environment(fresh_python):
    code = """
import spf_kernels
spf_kernels.use_backend("native")
print(spf_kernels.cache_statistics()["limit_bytes"])
"""
    assert fresh_python(code, SPF_CACHE_LIMIT_MB="3").stdout.strip() == str(3 * MEBI)
    assert fresh_python(code).stdout.strip() == str(2048 * MEBI)


def test_statistics_are_empty_before_the_first_use(fresh_python):
    code = "import spf_kernels; spf_kernels.empty_cache(); print(spf_kernels.cache_statistics())"
    assert fresh_python(code).stdout.strip() == "{}"


@pytest.fixture
def deterministic_algorithms():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("deterministic_algorithms")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [LARGE, (4, 512, 1024), (2, 3, 4)], ids=str)
def test_uninitialised_memory_is_filled_where_asked_for(shape, dtype):
    native._empty(shape, dtype).fill_(1)
    assert native._empty(shape, dtype).isnan().all()


@pytest.mark.usefixtures("deterministic_algorithms")
def test_filling_can_be_turned_off(monkeypatch):
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)
    native._empty(LARGE, torch.float32).fill_(1)
    assert (native._empty(LARGE, torch.float32) == 1).all()


def test_inference_mode_outputs_go_back_to_the_cache():
    layer = SPFFlatten(64, 2, 128)
    with torch.inference_mode():
        codes = layer(torch.ones(64, 64, 2, 2))
        assert codes.is_inference()
    cached = _statistics("cached_bytes")
    del codes
    assert _statistics("cached_bytes") == cached + 2 * MEBI


@pytest.mark.parametrize("code_size", [1, 128])
def test_weights_behind_huge_pages_are_ordinary_parameters(code_size):
    layer = SPFFlatten(64, 16, code_size)
    bound = 1 / 16
    assert layer.weight.is_contiguous()
    assert layer.weight.abs().max().item() <= bound
    assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


def test_a_module_can_be_made_of_fake_tensors():
    with FakeTensorMode():
        layer = SPFFlatten(64, 64, 128)
    assert layer.weight.shape == (64, 128, 4096)
