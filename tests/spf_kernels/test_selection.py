"""Which backend runs: asked for by name, by environment, or chosen; and life without the extension or Triton."""

import pytest
import torch

import spf_kernels
from spf_kernels import selection
from spf_kernels.backends import native, reference
from spf_kernels.functional import spf_flatten
from spf_kernels.selection import requested_backend, select

from .helpers import make_case, needs_native

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)
needs_triton = pytest.mark.skipif(
    selection.triton_unavailable() is not None, reason="Triton is not installed: there are no packages for this system"
)

# run in front of a script: neither the extension nor triton can be imported
# importing either is an ImportError, and importlib.util.find_spec, which torch asks for triton, finds nothing
BLOCKED = """
import sys, warnings
sys.modules["triton"] = sys.modules["spf_kernels._native"] = None
"""


@pytest.fixture
def ran(monkeypatch):
    """Names of the backends whose encode ran, in order."""
    names = []
    for backend in (native, reference):
        original = backend.encode

        def encode(*arguments, name=backend.NAME, original=original):
            names.append(name)
            return original(*arguments)

        monkeypatch.setattr(backend, "encode", encode)
    return names


def _flatten(dtype=torch.float32):
    case = make_case((2, 2, 3, 4), dtype, dtype)
    return spf_flatten(case.maps, case.weight)


@needs_native
def test_as_a_function_it_stays(ran):
    spf_kernels.use_backend("reference")
    _flatten()
    spf_kernels.use_backend("native")
    _flatten()
    spf_kernels.use_backend("auto")
    _flatten()
    assert ran == ["reference", "native", "native"]


@needs_native
def test_as_a_context_manager_it_ends(ran):
    with spf_kernels.use_backend("reference"):
        _flatten()
        with spf_kernels.use_backend("native"):
            _flatten()
            with spf_kernels.use_backend("auto"):
                assert requested_backend() == "auto"
            _flatten()
        _flatten()
    _flatten()
    assert ran == ["reference", "native", "native", "reference", "native"]


def test_context_manager_ends_with_an_error():
    with pytest.raises(KeyError), spf_kernels.use_backend("reference"):
        raise KeyError
    assert requested_backend() == "auto"


def test_refused_names_change_nothing():
    spf_kernels.use_backend("reference")
    with pytest.raises(ValueError, match="got 'gpu'"):
        spf_kernels.use_backend("gpu")
    assert requested_backend() == "reference"


@needs_native
@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        ((torch.float32, torch.float32), native),
        ((torch.bfloat16, torch.bfloat16), native),
        ((torch.float32, torch.bfloat16), native),
        ((torch.float64, torch.float64), reference),
        ((torch.float16, torch.float16), reference),
        ((torch.float32, torch.float16), reference),
    ],
    ids=str,
)
def test_automatic_choice(dtypes, expected):
    assert select(CPU, *dtypes) is expected


@needs_native
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
def test_a_named_backend_never_falls_back(dtype, ran):
    with spf_kernels.use_backend("native"), pytest.raises(TypeError, match=f"'native' was asked for .* got {dtype}"):
        _flatten(dtype)
    assert ran == []


@needs_native
def test_named_native_refuses_other_devices():
    with spf_kernels.use_backend("native"), pytest.raises(TypeError, match="device must be cpu, got cuda"):
        select(torch.device("cuda"), torch.float32)


@needs_native
def test_gradients_run_on_the_backend_of_their_own_time(monkeypatch):
    weight = make_case((2, 2, 3, 4)).weight.requires_grad_()
    calls = []
    original = reference.outer
    monkeypatch.setattr(reference, "outer", lambda *arguments: calls.append(1) or original(*arguments))
    codes = spf_flatten(torch.ones(2, 2, 4), weight)
    with spf_kernels.use_backend("reference"):
        codes.sum().backward()
    assert calls == [1]
    assert torch.equal(weight.grad, torch.full_like(weight, 2))


@needs_triton
class TestGpu:
    """The choice alone: no GPU is touched."""

    @pytest.fixture(autouse=True)
    def card(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
        monkeypatch.setattr(torch.version, "hip", None)
        monkeypatch.setattr(selection, "_warned", False)

    @pytest.mark.parametrize(
        "dtypes",
        [(torch.float32,), (torch.bfloat16,), (torch.float16,), (torch.float32, torch.bfloat16)],
        ids=str,
    )
    def test_automatic_choice(self, dtypes):
        assert select(GPU, *dtypes).NAME == "triton"
        assert select(torch.device("xpu", 0), *dtypes).NAME == "triton"

    @pytest.mark.parametrize("dtypes", [(torch.float64,), (torch.float32, torch.float64)], ids=str)
    def test_float64_goes_to_the_reference_without_a_word(self, dtypes, recwarn):
        assert select(GPU, *dtypes) is reference
        assert not recwarn.list

    def test_an_old_card_goes_to_the_reference_with_one_warning(self, monkeypatch, recwarn):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
        assert [select(GPU, torch.float32) for _ in range(3)] == [reference] * 3
        (warning,) = recwarn.list
        assert "slow reference backend: device must have compute capability 8.0 or more, got (7, 5)" in str(
            warning.message
        )

    def test_a_system_without_triton_goes_to_the_reference_with_one_warning(self, monkeypatch, recwarn):
        missing = selection.TritonUnavailableError("the Triton kernels are not available (why)")
        monkeypatch.setattr(selection, "_import_triton", lambda: missing)
        assert [select(GPU, torch.float32) for _ in range(3)] == [reference] * 3
        (warning,) = recwarn.list
        assert "slow reference backend: the Triton kernels are not available (why)" in str(warning.message)
        with pytest.raises(spf_kernels.TritonUnavailableError, match="not available"):
            spf_kernels.use_backend("triton")
        assert requested_backend() == "auto"

    def test_a_named_backend_never_falls_back(self, monkeypatch):
        spf_kernels.use_backend("triton")
        assert select(GPU, torch.float32).NAME == "triton"
        with pytest.raises(TypeError, match=r"'triton' was asked for by name, but its dtypes must be .*torch.float64"):
            select(GPU, torch.float64)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
        with pytest.raises(TypeError, match=r"compute capability 8.0 or more, got \(7, 5\)"):
            select(GPU, torch.float32)

    def test_named_triton_refuses_the_cpu(self):
        with spf_kernels.use_backend("triton"), pytest.raises(TypeError, match=r"device must be a GPU .* got cpu"):
            _flatten()

    def test_the_environment_names_it(self, monkeypatch):
        monkeypatch.setenv("SPF_BACKEND", "triton")
        with pytest.raises(TypeError, match=r"backend 'triton' was asked for by name, but its device .* got cpu"):
            _flatten()


class TestTritonIsImportedLate:
    def test_neither_the_import_nor_the_cpu_needs_it(self, fresh_python):
        code = """
import sys
import torch
import spf_kernels
autoencoder = spf_kernels.SPFAutoencoder(2, 3, 4)
autoencoder(torch.ones(5, 2, 3, 3)).loss.backward()
print([name for name in sys.modules if name.split(".")[0] == "triton" or name.startswith("spf_kernels.backends.t")])
"""
        process = fresh_python(code)
        assert process.stdout.strip() == "[]", process.stderr

    def test_asking_for_it_without_it_is_an_error(self, fresh_python):
        code = """
import spf_kernels
try:
    spf_kernels.use_backend("triton")
except spf_kernels.TritonUnavailableError as error:
    print(error)
print(spf_kernels.selection.requested_backend())
"""
        process = fresh_python(BLOCKED + code)
        message, requested = process.stdout.strip().splitlines()
        assert message.startswith("the Triton kernels are not available (import of triton"), process.stderr
        assert "pip install triton" in message
        assert requested == "auto"

    def test_the_environment_does_not_fall_back(self, fresh_python):
        code = "import torch, spf_kernels; spf_kernels.SPFFlatten(1, 2, 3)(torch.ones(1, 1, 2, 2))"
        process = fresh_python(BLOCKED + code, SPF_BACKEND="triton")
        assert "TritonUnavailableError: the Triton kernels are not available" in process.stderr

    @needs_triton
    def test_asking_for_it_imports_it(self, fresh_python):
        code = "import sys, spf_kernels; spf_kernels.use_backend('triton'); print('triton' in sys.modules)"
        assert fresh_python(code).stdout.strip() == "True"


class TestEnvironment:
    @pytest.fixture(autouse=True)
    def environment(self, monkeypatch):
        self.set = lambda value: monkeypatch.setenv("SPF_BACKEND", value)

    def test_names_the_backend(self, ran):
        self.set("reference")
        _flatten()
        assert ran == ["reference"]

    def test_use_backend_wins(self):
        self.set("reference")
        with spf_kernels.use_backend("auto"):
            assert requested_backend() == "auto"
        assert requested_backend() == "reference"

    def test_empty_is_automatic(self):
        self.set("")
        assert requested_backend() == "auto"

    def test_unknown_name_is_refused(self):
        self.set("fast")
        with pytest.raises(ValueError, match=r"backend must be one of .* got 'fast'"):
            _flatten()


@needs_native
def test_environment_in_a_new_process(fresh_python):
    code = "import torch, spf_kernels; spf_kernels.SPFFlatten(1, 2, 3).double()(torch.ones(1, 1, 2, 2).double())"
    process = fresh_python(code, SPF_BACKEND="native")
    assert process.stderr.strip().splitlines()[-1].startswith("TypeError: backend 'native' was asked for by name")
    assert fresh_python(code, SPF_BACKEND="reference").returncode == 0


def test_report(capsys):
    from spf_kernels.__main__ import main

    main()
    report = capsys.readouterr().out
    assert f"spf_kernels       {spf_kernels.__version__}" in report
    assert "cpu, float64   reference" in report
    if native.unavailable() is None:
        assert "cpu, float32   native" in report
        assert native.extension().selected_isa() in report
        assert native.extension().compiler in report


def test_report_names_what_a_forced_backend_refuses(capsys):
    from spf_kernels.__main__ import main

    if native.unavailable() is None:
        spf_kernels.use_backend("native")
        main()
        assert "cpu, float64   error: backend 'native' was asked for" in capsys.readouterr().out


class TestWithoutTheExtension:
    def test_everything_runs_and_warns_once(self, fresh_python):
        code = """
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import torch
    import spf_kernels
    torch.manual_seed(0)
    autoencoder = spf_kernels.SPFAutoencoder(2, 3, 4, "tanh")
    maps = torch.randn(5, 2, 3, 3)
    for _ in range(3):
        codes, loss = autoencoder(maps)
        (codes.sum() + loss).backward()
    spf_kernels.empty_cache()
    assert spf_kernels.cache_statistics() == {}
ours = [str(w.message) for w in caught if "spf_kernels" in str(w.message)]
assert len(ours) == 1, ours
assert "slow reference backend" in ours[0] and "import of spf_kernels._native halted" in ours[0], ours
encoders, decoders = autoencoder.to_linears()
loop = torch.cat([torch.tanh(e(m)) for e, m in zip(encoders, maps.flatten(2).unbind(1))], 1)
assert torch.allclose(codes, loop, atol=1e-6)
print("right")
"""
        process = fresh_python(BLOCKED + code)
        assert process.stdout.strip() == "right", process.stderr

    def test_asking_for_it_is_an_error(self, fresh_python):
        code = """
import torch
import spf_kernels
for ask in (lambda: spf_kernels.use_backend("native"), lambda: spf_kernels.set_cache_limit(0)):
    try:
        ask()
    except spf_kernels.NativeUnavailableError as error:
        print(error)
"""
        process = fresh_python(BLOCKED + code)
        lines = process.stdout.strip().splitlines()
        assert len(lines) == 2, process.stderr
        assert all("native kernels are not available" in line and "reinstall" in line for line in lines)

    def test_the_environment_does_not_fall_back(self, fresh_python):
        code = "import torch, spf_kernels; spf_kernels.SPFFlatten(1, 2, 3)(torch.ones(1, 1, 2, 2))"
        process = fresh_python(BLOCKED + code, SPF_BACKEND="native")
        assert "NativeUnavailableError: the native kernels are not available" in process.stderr

    def test_the_report_says_so(self, fresh_python):
        process = fresh_python(BLOCKED + "import runpy; runpy.run_module('spf_kernels', run_name='__main__')")
        assert "native kernels    no: the native kernels are not available" in process.stdout, process.stderr
        assert "cpu, float32   reference" in process.stdout
