"""The starts "grid" and "dct" against adaptive pooling, scipy's DCT and the projection they promise."""

import copy
import pickle
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from spf_kernels import SPFAutoencoder, SPFDecoder, SPFFlatten, dct_basis
from spf_kernels.distributed import sharding
from spf_kernels.initialization import INITS, grid_basis, grid_size
from spf_kernels.map_exchange import MapShards

from .helpers import randn

C = 3
F64 = torch.float64
STARTS = ["grid", "dct"]
MODULES = [SPFFlatten, SPFDecoder, SPFAutoencoder]


def _maps(size, batch=2, seed=0):
    return randn(batch, C, *size, dtype=F64, seed=seed)


def _close(actual, expected):
    return torch.allclose(actual, expected, rtol=1e-12, atol=1e-12)


def _linear_autoencoder(size, code_size, init, **options):
    return SPFAutoencoder(C, size, code_size, dtype=F64, init=init, **options)


class TestGrid:
    @pytest.mark.parametrize("size", [(8, 8), (12, 12), (7, 7), (13, 13)])
    def test_is_adaptive_average_pooling(self, size):
        maps = _maps(size)
        layer = SPFFlatten(C, size, 16, dtype=F64, init="grid")
        assert _close(layer(maps), nn.functional.adaptive_avg_pool2d(maps, 4).flatten(1))

    def test_is_pooling_to_the_bit_where_the_means_are_exact(self):
        maps = torch.randint(-64, 64, (2, C, 16, 16), generator=torch.Generator().manual_seed(1)).float()
        layer = SPFFlatten(C, 16, 16, init="grid")
        assert torch.equal(layer(maps), nn.functional.adaptive_avg_pool2d(maps, 4).flatten(1))

    @pytest.mark.parametrize(
        ("size", "code_size", "grid"),
        [
            (*((64, 64), 16), (4, 4)),
            (*((64, 64), 128), (11, 11)),
            (*((64, 64), 17), (4, 4)),
            (*((64, 64), 8), (2, 4)),
            (*((32, 64), 8), (2, 4)),
            (*((64, 16), 64), (16, 4)),
            (*((3, 100), 50), (1, 50)),
            (*((100, 1), 7), (7, 1)),
            (*((2, 2), 16), (2, 2)),
            (*((3, 5), 15), (3, 5)),
            (*((9, 4), 1), (1, 1)),
        ],
    )
    def test_cells_follow_the_maps_aspect(self, size, code_size, grid):
        assert grid_size(size, code_size) == grid
        maps = _maps(size)
        expected = nn.functional.adaptive_avg_pool2d(maps, grid).flatten(2)
        assert _close(maps.flatten(2) @ grid_basis(size, code_size).T, expected)

    def test_every_cell_count_fits(self):
        generator = torch.Generator().manual_seed(2)
        for H, W, D in torch.randint(1, 40, (300, 3), generator=generator).tolist():
            rows, columns = grid_size((H, W), D)
            assert 1 <= rows <= H
            assert 1 <= columns <= W
            assert rows * columns <= D

    def test_reconstruction_paints_each_cell_with_its_mean(self):
        maps = _maps((8, 12))
        # 4 x 6 cells
        module = _linear_autoencoder((8, 12), 24, "grid")
        expected = nn.functional.avg_pool2d(maps, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
        assert _close(module.reconstruct(maps), expected)

    def test_overlapping_cells_share_their_pixels(self):
        maps = _maps((7, 7))
        painted = _linear_autoencoder((7, 7), 4, "grid").reconstruct(maps)
        cells = nn.functional.adaptive_avg_pool2d(maps, 2)
        assert _close(painted[:, :, :3, :3], cells[:, :, :1, :1].expand(-1, -1, 3, 3))
        assert _close(painted[:, :, 3, 0], cells[:, :, :, 0].mean(2))
        assert _close(painted[:, :, 3, 3], cells.mean((2, 3)))

    @pytest.mark.parametrize("size", [(7, 7), (8, 5)])
    def test_a_constant_map_survives(self, size):
        maps = torch.full((1, C, *size), 0.7, dtype=F64)
        assert _close(_linear_autoencoder(size, 10, "grid").reconstruct(maps), maps)


class TestDct:
    @pytest.mark.parametrize("size", [(8, 8), (5, 7), (1, 6)])
    def test_all_frequencies_are_scipys(self, size):
        scipy_fft = pytest.importorskip("scipy.fft")
        pixels = size[0] * size[1]
        basis = dct_basis(size, pixels)
        maps = _maps(size)
        ours = (maps.flatten(2) @ basis.T).sort(dim=2).values
        theirs = torch.from_numpy(scipy_fft.dctn(maps.numpy(), axes=(2, 3), norm="ortho")).flatten(2).sort(dim=2).values
        assert _close(ours, theirs)

    @pytest.mark.parametrize("k", [1, 2, 4, 11])
    def test_a_square_code_is_the_lowest_square(self, k):
        full = dct_basis((1, 16), 16)
        expected = torch.kron(full[:k], full[:k])
        basis = dct_basis(16, k * k)
        # the same rows in some order: their products are a permutation
        products = basis @ expected.T
        assert _close(products.sort(dim=1).values[:, -1], torch.ones(k * k, dtype=F64))
        assert _close(products.abs().sum(1), torch.ones(k * k, dtype=F64))

    def test_order(self):
        waves = dct_basis((1, 6), 6)
        order = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (2, 2), (0, 3)]
        expected = torch.stack([torch.kron(waves[u], waves[v]) for u, v in order])
        assert _close(dct_basis(6, 10), expected)

    def test_the_longer_axis_gets_more_frequencies(self):
        basis = dct_basis((8, 32), 4).unflatten(1, (8, 32))
        assert _close(basis[:, :1].expand_as(basis), basis)
        assert not _close(basis[1, :, :1].expand(8, 32), basis[1])

    @pytest.mark.parametrize("size", [(8, 8), (5, 9)])
    def test_shorter_bases_are_the_start_of_longer_ones(self, size):
        longest = dct_basis(size, 40)
        for code_size in (1, 7, 16, 39):
            assert torch.equal(dct_basis(size, code_size), longest[:code_size])

    @pytest.mark.parametrize(("size", "code_size"), [((8, 8), 16), ((5, 9), 13), ((8, 8), 64), ((5, 9), 45)])
    def test_reconstruction_is_the_projection(self, size, code_size):
        maps = _maps(size)
        module = _linear_autoencoder(size, code_size, "dct")
        once = module.reconstruct(maps)
        assert _close(module.reconstruct(once), once)
        left = (maps - once).flatten(2)
        assert _close(left @ module.encoder.weight[0].T, torch.zeros(2, C, code_size, dtype=F64))
        assert _close(once, maps) == (code_size == size[0] * size[1])
        assert _close(module(maps).loss, left.square().mean())

    def test_dtype(self):
        basis = dct_basis(8, 5, torch.bfloat16)
        assert basis.dtype == torch.bfloat16
        assert torch.equal(basis, dct_basis(8, 5).bfloat16())

    def test_errors(self):
        with pytest.raises(ValueError, match="code_size must be at most the map's 6 pixels, got 7"):
            dct_basis((2, 3), 7)
        with pytest.raises(ValueError, match="map_size must be"):
            dct_basis(0, 7)
        with pytest.raises(ValueError, match="code_size must be"):
            grid_basis(4, 0)
        for basis in (dct_basis, grid_basis):
            with pytest.raises(TypeError, match=r"dtype must be a floating-point one, got torch\.int64"):
                basis(4, 4, torch.int64)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("name", ["", "Grid", "random", None])
def test_unknown_start(module, name):
    with pytest.raises(ValueError, match=rf"init must be one of .*'grid'.* got {name!r}"):
        module(C, 4, 5, init=name)


@pytest.mark.parametrize("activation", [None, "relu", "tanh", "sigmoid"])
@pytest.mark.parametrize("init", STARTS)
def test_the_weights_do_not_depend_on_activations(init, activation):
    plain = SPFAutoencoder(C, 6, 9, init=init).state_dict()
    for name, value in SPFAutoencoder(C, 6, 9, activation, activation, init=init).state_dict().items():
        assert torch.equal(value, plain[name])


@pytest.mark.parametrize(
    ("init", "size", "code_size", "rows"),
    [("grid", (5, 5), 18, 16), ("grid", (2, 3), 9, 6), ("dct", (2, 3), 9, 6), ("dct", (5, 5), 18, 18)],
)
def test_codes_beyond_the_start_are_random_and_not_decoded(init, size, code_size, rows):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = SPFAutoencoder(C, size, code_size, init=init)
    encoder, decoder = module.encoder.weight, module.decoder.weight
    beyond = encoder[:, rows:]
    assert beyond.numel() == C * (code_size - rows) * size[0] * size[1]
    bound = (size[0] * size[1]) ** -0.5
    assert (beyond.abs() <= bound).all()
    assert beyond.unique().numel() == beyond.numel()
    assert torch.equal(encoder[:, :rows], encoder[:1, :rows].expand(C, -1, -1))
    assert not decoder[:, rows:].any()
    assert decoder[:, :rows].any(2).all()
    assert not module.encoder.bias.any()
    assert not module.decoder.bias.any()


@pytest.mark.parametrize("init", INITS)
def test_reset_gives_the_start_again(init):
    module = SPFAutoencoder(C, 6, 16, init=init)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    random = torch.get_rng_state()
    for layer in (module.encoder, module.decoder):
        for parameter in layer.parameters():
            nn.init.constant_(parameter, float("nan"))
        layer.reset_parameters()
    for name, value in module.state_dict().items():
        assert value.isfinite().all()
        assert torch.equal(value, before[name]) == (init != "linear")
    # nothing is drawn where nothing is random
    assert torch.equal(torch.get_rng_state(), random) == (init != "linear")


def test_linear_is_the_loops_start():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = SPFFlatten(C, 6, 5)
        torch.manual_seed(0)
        weight = nn.init.uniform_(torch.empty(C, 5, 36), -1 / 6, 1 / 6)
        bias = nn.init.uniform_(torch.empty(C, 5), -1 / 6, 1 / 6)
    assert torch.equal(layer.weight, weight)
    assert torch.equal(layer.bias, bias)


@pytest.mark.parametrize("init", STARTS)
class TestLife:
    def test_meta(self, init):
        module = SPFAutoencoder(C, (5, 7), 40, init=init, device="meta")
        with torch.device("meta"):
            inside = SPFAutoencoder(C, (5, 7), 40, init=init)
        assert {p.device.type for m in (module, inside) for p in m.parameters()} == {"meta"}
        module = module.to_empty(device="cpu")
        for layer in (module.encoder, module.decoder):
            layer.reset_parameters()
        maps = randn(2, C, 5, 7)
        expected = SPFAutoencoder(C, (5, 7), 40, init=init).reconstruct(maps)
        assert torch.allclose(module.reconstruct(maps), expected, atol=1e-6)

    def test_bfloat16_is_rounded_once(self, init):
        module = SPFAutoencoder(C, 7, 20, init=init, dtype=torch.bfloat16)
        exact = SPFAutoencoder(C, 7, 20, init=init, dtype=F64)
        for name, value in module.state_dict().items():
            assert value.dtype == torch.bfloat16
            assert torch.equal(value, exact.state_dict()[name].bfloat16())

    def test_copies_and_representation(self, init):
        layer = SPFFlatten(C, 6, 9, init=init, grad_mode="factored")
        assert str(layer).endswith(f"bias=True, grad_mode='factored', init={init!r})")
        for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert str(other) == str(layer)
            nn.init.zeros_(other.weight)
            other.reset_parameters()
            assert torch.equal(other.weight, layer.weight)

    def test_without_bias(self, init):
        module = SPFAutoencoder(C, 6, 9, bias=False, init=init)
        assert set(module.state_dict()) == {"encoder.weight", "decoder.weight"}

    def test_state_dict_goes_to_and_from_linear(self, init):
        layer, other = SPFFlatten(C, 6, 9, init=init), SPFFlatten(C, 6, 9)
        other.load_state_dict(layer.state_dict())
        assert torch.equal(other.weight, layer.weight)
        assert len(layer.to_linears()) == C

    def test_training_moves_it(self, init):
        module = SPFAutoencoder(C, 6, 9, init=init)
        maps = randn(8, C, 6, 6)
        optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
        first = module(maps).loss
        first.backward()
        optimizer.step()
        assert module(maps).loss < first

    def test_sharded(self, init):
        # as the second of two ranks has it
        group = SimpleNamespace(size=lambda: 2, rank=lambda: 1)
        whole = SPFAutoencoder(C, 6, 16, init=init)
        share = copy.deepcopy(whole)
        for layer in (share.encoder, share.decoder):
            sharding._shard(layer, MapShards(C, group))
            nn.init.zeros_(layer.weight)
            layer.reset_parameters()
        assert f"init={init!r}, here maps 2 to 2" in str(share)
        for name, value in share.state_dict().items():
            assert torch.equal(value, whole.state_dict()[name][2:])
        linear = SPFAutoencoder(C, 6, 16).state_dict()
        share.load_state_dict(linear)
        for name, value in share.state_dict().items():
            assert torch.equal(value, linear[name][2:])
