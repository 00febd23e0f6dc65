"""Two and four real processes on this machine, over Gloo."""

import re

import pytest
import torch

from spf_kernels.distributed import clip_grad_norm_, gather_factors, gather_state_dict

from . import distributed_scenarios
from .distributed_faults import SCENARIOS, TIMEOUT_S
from .distributed_helpers import (
    BATCH,
    MAX_NORM,
    STEPS,
    C,
    D,
    Network,
    Results,
    S,
    images_of,
    make_optimizer,
    mean_loss,
    train,
)

WORLDS = (2, 4)
SHARES = {2: (3, 2), 4: (2, 1, 1, 1)}
WAYS = ("dense", "gathered", "sharded", "sharded, dense")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return Results(tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def both(results):
    """What the ranks return, by their number."""
    return {world: results.of("everything", world) for world in WORLDS}


@pytest.fixture(params=WORLDS)
def world(request):
    return request.param


@pytest.fixture
def ranks(both, world):
    return both[world]


@pytest.fixture(scope="module")
def alone():
    """The same training in one process, on all images."""
    network = Network()
    optimizer = make_optimizer(network)
    norms = train(network, network, optimizer)
    return {"norms": norms, "network": network.state_dict(), "optimizer": optimizer.state_dict()}


def assert_close(actual, expected, tolerance=2e-6):
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def assert_same_training(actual, expected):
    """Networks, and optimizers where there are some."""
    assert actual["network"].keys() == expected["network"].keys()
    for name, value in expected["network"].items():
        assert_close(actual["network"][name], value, 1e-5)
    if "optimizer" in actual:
        ours, theirs = (each["optimizer"]["state"] for each in (actual, expected))
        assert ours.keys() == theirs.keys()
        for index in theirs:
            for name, value in theirs[index].items():
                assert_close(ours[index][name], value)


def joined(ranks, select):
    """Gradients of the whole network from those of the ranks: shares one behind the other, the rest alike."""
    parts = [select(rank) for rank in ranks]
    whole = {}
    for name, value in parts[0].items():
        sharded = name.startswith("autoencoder")
        whole[name] = torch.cat([part[name] for part in parts]) if sharded else value
    return whole


class TestTraining:
    @pytest.mark.parametrize("way", WAYS)
    def test_as_in_one_process_on_all_images(self, ranks, alone, way):
        result = ranks[0]["training"][way]
        assert_same_training(result, alone)
        # the first norms are above the limit, so that they were clipped
        assert_close(torch.tensor(result["norms"]), torch.tensor(alone["norms"]), 1e-5)
        assert alone["norms"][0] > MAX_NORM

    def test_every_rank_reports_the_same_norm(self, ranks):
        for way in WAYS:
            assert len({tuple(rank["training"][way]["norms"]) for rank in ranks}) == 1

    def test_replicas_stay_the_same_bit_by_bit(self, ranks):
        for way in WAYS:
            for name, value in ranks[0]["training"][way]["here"].items():
                if "sharded" not in way or not name.startswith("autoencoder"):
                    assert all(torch.equal(rank["training"][way]["here"][name], value) for rank in ranks)

    def test_a_rank_keeps_its_share_only(self, ranks, world):
        for rank, count in zip(ranks, SHARES[world], strict=True):
            here = rank["training"]["sharded"]["here"]
            assert here["autoencoder.encoder.weight"].shape == (count, D, S)
            assert here["autoencoder.decoder.bias"].shape == (count, S)

    def test_only_rank_0_has_the_checkpoint(self, ranks):
        assert all(rank["training"]["sharded"]["network"] == {} for rank in ranks[1:])
        assert all(rank["training"]["sharded"]["optimizer"] == {} for rank in ranks[1:])

    def test_under_torch_compile(self, both, alone):
        for way in ("gathered", "sharded"):
            result = both[2][0]["compiled"][way]
            assert_same_training(result, alone)
            assert result["kind"] == "FactoredGrad"

    def test_with_fsdp_on_the_rest(self, ranks, alone):
        for way in ("gathered", "sharded"):
            result = ranks[0]["wrapped_by_fsdp"][way]
            assert_same_training(result, alone)
            assert_close(torch.tensor(result["norms"]), torch.tensor(alone["norms"]), 1e-5)


class TestBytes:
    def test_gathered(self, ranks, world):
        for rank in ranks:
            factors = BATCH // world * C * (D + S) * 4
            assert rank["training"]["gathered"]["counters"] == {
                # encoder and decoder
                "bytes sent: factors": STEPS * 2 * (world - 1) * factors,
                "bytes sent: batch sizes": STEPS * 2 * (world - 1) * 8,
            }

    @pytest.mark.parametrize("way", ["sharded", "sharded, dense"])
    def test_sharded(self, ranks, world, way):
        own_batch = BATCH // world
        other_batch = BATCH - own_batch
        for rank, own in zip(ranks, SHARES[world], strict=True):
            counted = {
                name.removeprefix("bytes sent: "): number / STEPS / 4
                for name, number in rank["training"][way]["counters"].items()
                if name != "bytes sent: batch sizes"
            }
            # checkpoints are not counted
            assert counted == {
                "maps": own_batch * (C - own) * S,
                "codes": other_batch * own * D,
                "losses": other_batch,
                "gradient of maps": other_batch * own * S,
                "gradient of codes": own_batch * (C - own) * D,
                "gradient of losses": own_batch * (world - 1),
            }

    def test_dense_gradients_are_not_ours(self, ranks):
        assert ranks[0]["training"]["dense"]["counters"] == {}

    def test_low_precision_factors_are_half_as_many(self, ranks, world):
        for rank in ranks:
            counted = rank["layer_alone"]["gathered, bias True"]["counters"]
            factors = BATCH // world * C * (D + S) * 2
            assert counted["bytes sent: factors"] == (world - 1) * factors

    def test_summed_ones(self, ranks, world):
        counted = ranks[0]["summed"]["gathered, many"]["counters"]
        assert counted == {
            "bytes sent: gradients": 2 * 2 * (world - 1) * C * D * S * 4 // world,
            "bytes sent: batch sizes": 2 * (world - 1) * 8,
            "factored gradient materialised: summed over the ranks": 2,
        }


class TestGathering:
    def test_the_gather_goes_on_after_the_backward(self, ranks):
        assert all(rank["layer_alone"]["gathered, bias True"]["under way"] for rank in ranks)

    def test_a_layer_that_is_the_model(self, ranks):
        for rank in ranks:
            for bias in (True, False):
                dense, gathered = (rank["layer_alone"][f"{way}, bias {bias}"] for way in ("dense", "gathered"))
                # factors of bfloat16, gradients of float32
                assert_close(gathered["gradients"], dense["gradients"], 1e-6)

    def test_gradients_are_summed_where_that_is_less(self, ranks):
        for rank in ranks:
            for case in ("many", "dense part"):
                dense, gathered = (rank["summed"][f"{way}, {case}"] for way in ("dense", "gathered"))
                assert_close(gathered["gradients"], dense["gradients"])

    def test_a_dense_part_on_one_rank_concerns_its_weight_alone(self, ranks):
        for rank in ranks[:-1]:
            counted = rank["summed"]["gathered, dense part"]["counters"]
            assert counted["factored gradient materialised: summed over the ranks"] == 1
            assert counted["bytes sent: factors"] > 0


class TestUnequalRanks:
    def test_numbers_of_samples(self, ranks):
        dense = ranks[0]["unequal_batches"]["dense"]
        assert_close(joined(ranks, lambda rank: rank["unequal_batches"]["sharded"]), dense, 1e-4)
        for rank in ranks:
            assert_close(rank["unequal_batches"]["gathered"], dense, 1e-4)

    def test_micro_batches(self, ranks):
        dense = ranks[0]["accumulation"]["dense"]
        assert_close(joined(ranks, lambda rank: rank["accumulation"]["sharded"]), dense)
        for rank in ranks:
            assert_close(rank["accumulation"]["gathered"], dense)


class TestSharding:
    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    def test_outputs_are_those_of_the_unsharded_module(self, ranks, reduction):
        for rank in ranks:
            whole, sharded = (rank["sharded_outputs"][f"{reduction}, {kind}"] for kind in ("whole", "sharded"))
            for name in ("logits", "loss", "images", "pictures"):
                torch.testing.assert_close(sharded[name], whole[name], rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    def test_second_derivatives(self, ranks, reduction):
        results = [rank["sharded_outputs"] for rank in ranks]
        sharded = torch.cat([result[f"{reduction}, sharded"]["second"] for result in results])
        mean = sum(result[f"{reduction}, whole"]["second"] for result in results) / len(ranks)
        torch.testing.assert_close(sharded, mean, rtol=1e-4, atol=1e-5 * mean.abs().max().item())

    def test_a_copied_module_says_which_maps_it_has(self, ranks, world):
        texts = [rank["sharded_outputs"]["text"] for rank in ranks]
        expected = {2: ["0 to 2", "3 to 4"], 4: ["0 to 1", "2 to 2", "3 to 3", "4 to 4"]}
        assert [text.split("here maps ")[1].rstrip(")") for text in texts] == expected[world]

    def test_some_of_the_ranks(self, both):
        for rank in both[4]:
            assert rank["pairs"] == pytest.approx(expected_of_pair(), rel=1e-5)

    def test_all_skip_a_step_that_overflows_on_one(self, both):
        assert [rank["infinity_on_one_rank"] for rank in both[2]] == [{"stepped": False, "scale": 2.0}] * 2


def expected_of_pair():
    """The largest gradient of one process on all images."""
    network = Network()
    mean_loss(network, images_of(5)).backward()
    return torch.nn.utils.clip_grad_norm_(network.autoencoder.parameters(), 1.0, torch.inf).item()


class TestCheckpoints:
    def test_saved_by_two_ranks_loaded_by_four(self, both, alone):
        assert_same_training(both[4][0]["resumed"], alone)

    def test_saved_by_ranks_loaded_by_one(self, results, world, alone):
        network = Network(seed=1)
        optimizer = make_optimizer(network)
        distributed_scenarios.load(network, optimizer, results.folder / f"checkpoint-{world}.pt")
        train(network, network, optimizer, steps=range(STEPS // 2, STEPS))
        assert_same_training({"network": network.state_dict(), "optimizer": optimizer.state_dict()}, alone)

    def test_of_an_unsharded_network_is_its_own(self):
        network = Network()
        state = gather_state_dict(network)
        assert state.keys() == network.state_dict().keys()
        assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())


class TestRefusals:
    @pytest.mark.parametrize(
        ("case", "message"),
        [
            ("not gathered", "RuntimeError: aten.copy_.default would write to a factored gradient"),
            ("not gathered", "spf_kernels.distributed.gather_factors(model)"),
            ("nothing factored", "ValueError: model must have modules with grad_mode='factored'"),
            ("gathered twice", "ValueError: model must not be given to gather_factors twice"),
            ("wrapped already", "ValueError: model must be what DistributedDataParallel will get"),
            ("not alike", "ValueError: factored weights must be the same on all ranks"),
            ("differentiable", "RuntimeError: gather_factors does not support create_graph=True"),
            ("no layers", "ValueError: model must hold an SPFFlatten or SPFAutoencoder"),
            ("few maps", "ValueError: num_maps must be at least the number of ranks"),
            ("sharded twice", "ValueError: model must not be sharded twice"),
            ("not alike, sharded", "ValueError: layers must be the same on all ranks"),
            ("a part", "RuntimeError: DistributedDataParallel has taken a sharded weight for a replicated one"),
            ("linears", "ValueError: a sharded module has its own maps only"),
            ("other state", "ValueError: optimizer must keep tensors of the shape"),
            ("changed maps", "RuntimeError: the tensor behind the factor right (2, 5, 64)"),
        ],
    )
    def test_on_every_rank(self, ranks, case, message):
        for rank in ranks:
            assert message in rank["refusals"]["messages"][case]

    def test_views_of_buckets_are_right_without_gathering(self, ranks):
        # the first step's, before clipping: those of one process
        network = Network()
        mean_loss(network, images_of(0)).backward()
        for rank in ranks:
            for name, parameter in network.named_parameters():
                assert_close(rank["refusals"]["bucket view"][name], parameter.grad)

    def test_no_process_group(self):
        with pytest.raises(RuntimeError, match=r"process_group must be given, or .*init_process_group be called"):
            gather_factors(Network("factored"))

    def test_a_norm_that_is_none(self):
        with pytest.raises(ValueError, match="norm_type must be positive, got 0"):
            clip_grad_norm_(Network(), 1.0, 0)


class TestFaults:
    @pytest.mark.parametrize("scenario", SCENARIOS)
    def test_a_rank_that_dies_or_is_silent_ends_the_others(self, results, scenario):
        (survivor,) = results.of(scenario, 2, ranks=1)
        expected = r"rank 0 of 2: the exchange of [a-z ]+ failed: another rank has ended, does not take part"
        assert re.match(expected, survivor["message"])
        assert survivor["seconds"] < TIMEOUT_S + 2
