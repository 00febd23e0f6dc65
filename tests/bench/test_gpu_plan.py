from itertools import product

import torch

from bench.cases import Case
from bench.gpu.operations import OPERATIONS
from bench.gpu.plan import EXACT, FAST, Planned, Setting, plan, precision_of


def test_every_size_of_the_issue_is_planned_once_and_the_main_one_first():
    planned = plan(smoke=False)
    labels = [entry.setting.label for entry in planned]
    assert labels[0] == "B12-64x64-D128-fp32"
    assert len(set(labels)) == len(labels)
    wanted = product((1, 12, 64), (16, 32, 64), (32, 128, 256), ("fp32", "bf16"))
    assert {f"B{b}-{side}x{side}-D{d}-{dtype}" for b, side, d, dtype in wanted} <= set(labels)
    assert {entry.setting.label for entry in planned if entry.setting.precision == FAST} == {
        f"B{batch}-64x64-D128-tf32" for batch in (1, 12, 64)
    }


def test_the_sizes_next_to_the_main_one_come_before_the_rest_with_every_operation():
    planned = plan(smoke=False)
    first_partial = next(index for index, entry in enumerate(planned) if entry.operations is not None)
    assert [entry.operations for entry in planned[:first_partial]] == [None] * first_partial
    assert first_partial > 12
    assert all(entry.operations is not None for entry in planned[first_partial:])


def test_maps_of_512_take_the_forward_alone():
    large = [entry for entry in plan(smoke=False) if entry.setting.case.side == 512]
    assert {entry.operations for entry in large} == {("forward",)}
    assert {entry.setting.case.code_size for entry in large} == {32, 128}


def test_named_operations_exist():
    names = {operation.name for operation in OPERATIONS}
    assert all(set(entry.operations or names) <= names for entry in plan(smoke=False))
    assert Planned(plan(False)[0].setting, ("forward",)).includes("forward")
    assert not Planned(plan(False)[0].setting, ("forward",)).includes("backward")


def test_precision_holds_inside_and_is_restored():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    for precision in (EXACT, FAST):
        with precision_of(Setting(Case(1, 4, 8, torch.float32), precision)):
            assert torch.get_float32_matmul_precision() == precision
            assert torch.backends.cudnn.allow_tf32 == (precision == FAST)
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


def test_the_granted_error_tells_the_precisions_apart():
    fp32, tf32, bf16 = (entry.setting for entry in (plan(False)[0], plan(False)[2], plan(False)[1]))
    assert (fp32.label, bf16.label, tf32.label) == tuple(f"B12-64x64-D128-{name}" for name in ("fp32", "bf16", "tf32"))
    # plain tf32 errs by 3e-4 and more
    assert fp32.largest_error < 3e-4 < tf32.largest_error < bf16.largest_error
