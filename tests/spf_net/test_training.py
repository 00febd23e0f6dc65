"""Training: resuming is exact, stopping is said, nothing is overwritten unasked."""

import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spf_data import DataConfig, XrayDataset, build_dataset
from spf_net import training
from spf_net.checkpoint import load_checkpoint, save_checkpoint
from spf_net.config import OptimizerConfig, RunConfig, TrainingConfig
from spf_net.extractor import ExtractorConfig
from spf_net.heads import GradMode, HeadConfig
from spf_net.history import EpochRow, best_epoch, stop_reason
from spf_net.launch import start_fabric
from spf_net.training import TrainingResult, train


@pytest.fixture(scope="module")
def dataset() -> XrayDataset:
    dataset = build_dataset(DataConfig(num_images=60, image_size=64, seed=1))
    dataset.labels[torch.rand(dataset.labels.shape, generator=torch.Generator().manual_seed(0)) < 0.1] = float("nan")
    return dataset


def config(output: Path, epochs: int, **changes: Any) -> RunConfig:
    settings = RunConfig(
        data=DataConfig(num_images=60, image_size=64, seed=1),
        extractor=ExtractorConfig(widths=(4,), num_maps=3, downsample=8, dropout=0.3),
        head=HeadConfig(code_size=3),
        training=TrainingConfig(epochs=epochs, patience=epochs, batch_size=8, accelerator="cpu", resamples=10),
        output=output,
    )
    return replace(settings, **changes)


def run(settings: RunConfig, dataset: XrayDataset) -> TrainingResult:
    return train(settings, dataset, start_fabric(settings.training))


def weights(folder: Path) -> Mapping[str, torch.Tensor]:
    return load_checkpoint(folder / "checkpoints").model


def same(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "optimizer", [OptimizerConfig(grad_mode="dense"), OptimizerConfig(), OptimizerConfig(state_dtype="bfloat16")]
)
def test_resuming_gives_the_same_weights_bit_by_bit(
    tmp_path: Path, dataset: XrayDataset, optimizer: OptimizerConfig
) -> None:
    whole = run(config(tmp_path / "whole", 4, optimizer=optimizer), dataset)
    run(config(tmp_path / "parts", 2, optimizer=optimizer), dataset)
    halfway = weights(tmp_path / "parts")
    # What happens in between must not matter.
    torch.manual_seed(99)
    torch.rand(3)
    resumed = run(config(tmp_path / "parts", 4, optimizer=optimizer, resume=True), dataset)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert not same(halfway, weights(tmp_path / "parts"))
    np.testing.assert_array_equal(whole.scores, resumed.scores)
    assert whole.epochs == resumed.epochs == 4


def moments(folder: Path) -> list[torch.Tensor]:
    state = load_checkpoint(folder / "checkpoints").optimizer["state"]
    return [values[name] for values in state.values() for name in ("exp_avg", "exp_avg_sq")]


def test_factored_gradients_train_like_dense_ones_and_are_never_made_dense(
    tmp_path: Path, dataset: XrayDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPF_FACTORED_STRICT", "1")
    run(config(tmp_path / "dense", 2, optimizer=OptimizerConfig(grad_mode="dense")), dataset)
    run(config(tmp_path / "factored", 2, optimizer=OptimizerConfig(grad_mode="factored")), dataset)
    dense, factored = weights(tmp_path / "dense"), weights(tmp_path / "factored")
    for name, weight in dense.items():
        torch.testing.assert_close(factored[name], weight, rtol=0, atol=1e-5)


def test_state_in_bfloat16_is_rounded_by_the_seed(tmp_path: Path, dataset: XrayDataset) -> None:
    optimizer = OptimizerConfig(state_dtype="bfloat16")
    other = TrainingConfig(epochs=1, batch_size=8, accelerator="cpu", seed=5)
    run(config(tmp_path / "float32", 1), dataset)
    run(config(tmp_path / "bfloat16", 1, optimizer=optimizer), dataset)
    run(config(tmp_path / "again", 1, optimizer=optimizer), dataset)
    run(config(tmp_path / "other", 1, optimizer=optimizer, training=other), dataset)
    full, half, again, differently = (moments(tmp_path / name) for name in ("float32", "bfloat16", "again", "other"))
    assert {moment.dtype for moment in full} == {torch.float32}
    assert {moment.dtype for moment in half} == {torch.bfloat16}
    assert {weight.dtype for weight in weights(tmp_path / "bfloat16").values()} == {torch.float32}
    assert all(map(torch.equal, half, again))
    assert not all(map(torch.equal, half, differently))


@pytest.mark.parametrize("grad_mode", ["dense", "factored"])
def test_mixed_precision_keeps_weights_and_state_in_float32(
    tmp_path: Path, dataset: XrayDataset, monkeypatch: pytest.MonkeyPatch, grad_mode: GradMode
) -> None:
    monkeypatch.setenv("SPF_FACTORED_STRICT", "1")
    optimizer = OptimizerConfig(lr=1e-2, grad_mode=grad_mode)
    settings = config(tmp_path / "float32", 4, optimizer=optimizer)
    run(settings, dataset)
    mixed = replace(settings.training, precision="bf16-mixed")
    run(replace(settings, training=mixed, output=tmp_path / "mixed"), dataset)
    for tensor in (*weights(tmp_path / "mixed").values(), *moments(tmp_path / "mixed")):
        assert tensor.dtype == torch.float32
    # The low bits are in use: no weight is a bfloat16 in disguise.
    for name, weight in weights(tmp_path / "mixed").items():
        assert name.endswith("bias") or not torch.equal(weight, weight.bfloat16().float())
    losses = [row["train_loss"] for row in load_checkpoint(tmp_path / "mixed" / "checkpoints").state["history"]]
    full = [row["train_loss"] for row in load_checkpoint(tmp_path / "float32" / "checkpoints").state["history"]]
    assert losses[-1] < 0.8 * losses[0]
    np.testing.assert_allclose(losses, full, rtol=0.02)


def test_the_table_of_epochs_is_whole_after_resuming(tmp_path: Path, dataset: XrayDataset) -> None:
    run(config(tmp_path, 1), dataset)
    run(config(tmp_path, 3, resume=True), dataset)
    with (tmp_path / "metrics.csv").open() as opened:
        rows = list(csv.DictReader(opened))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert all(float(row["train_loss"]) > 0 for row in rows)
    assert list((tmp_path / "tensorboard").iterdir())


def test_the_table_has_the_last_epoch_even_if_a_crash_follows_its_checkpoint(
    tmp_path: Path, dataset: XrayDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_and_crash(*arguments: Any) -> None:
        save_checkpoint(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training, "save_checkpoint", save_and_crash)
        with pytest.raises(KeyboardInterrupt):
            run(config(tmp_path, 1), dataset)
    run(config(tmp_path, 1, resume=True), dataset)
    with (tmp_path / "metrics.csv").open() as opened:
        assert [row["epoch"] for row in csv.DictReader(opened)] == ["1"]


def test_the_seed_decides_everything(tmp_path: Path, dataset: XrayDataset) -> None:
    other = TrainingConfig(epochs=1, batch_size=8, accelerator="cpu", seed=5)
    run(config(tmp_path / "a", 1), dataset)
    run(config(tmp_path / "b", 1), dataset)
    run(config(tmp_path / "c", 1, training=other), dataset)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_the_scores_are_those_of_the_best_epoch(tmp_path: Path, dataset: XrayDataset) -> None:
    # A learning rate that destroys the network after its first, best epoch.
    settings = config(tmp_path, 4, head=HeadConfig("average_pooling"), optimizer=OptimizerConfig(lr=1.0))
    result = run(settings, dataset)
    history = load_checkpoint(tmp_path / "checkpoints").state["history"]
    assert result.best_epoch == best_epoch(history) < 4
    best = load_checkpoint(tmp_path / "checkpoints", best=True)
    assert best.epoch == result.best_epoch
    assert not same(best.model, weights(tmp_path))
    again = run(replace(settings, resume=True), dataset)
    np.testing.assert_array_equal(again.scores, result.scores)


def test_a_run_is_not_overwritten_unasked(tmp_path: Path, dataset: XrayDataset) -> None:
    run(config(tmp_path, 1), dataset)
    before = weights(tmp_path)
    with pytest.raises(FileExistsError, match="holds a run: pass --resume"):
        run(config(tmp_path, 1), dataset)
    assert same(weights(tmp_path), before)
    result = run(config(tmp_path, 1, overwrite=True, optimizer=OptimizerConfig(lr=1e-2)), dataset)
    assert result.epochs == 1
    assert not same(weights(tmp_path), before)


def test_resuming_with_other_settings_is_refused(tmp_path: Path, dataset: XrayDataset) -> None:
    run(config(tmp_path, 1), dataset)
    with pytest.raises(ValueError, match=r"head.code_size was 3, got 4, optimizer.lr was 0.001, got 0.1"):
        run(config(tmp_path, 2, resume=True, head=HeadConfig(code_size=4), optimizer=OptimizerConfig(lr=0.1)), dataset)


def test_resuming_nothing_says_so(tmp_path: Path, dataset: XrayDataset, capsys: pytest.CaptureFixture[str]) -> None:
    run(config(tmp_path, 1, resume=True), dataset)
    assert "holds no checkpoint to resume: starting anew" in capsys.readouterr().out


def test_a_line_an_epoch(tmp_path: Path, dataset: XrayDataset, capsys: pytest.CaptureFixture[str]) -> None:
    run(config(tmp_path, 2), dataset)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path, dataset: XrayDataset) -> None:
    with pytest.raises(FloatingPointError, match=r"the loss is not finite in epoch 1: .* lower the learning rate"):
        run(config(tmp_path, 1, optimizer=OptimizerConfig(lr=1e30)), dataset)


def test_class_weights_change_the_loss(tmp_path: Path, dataset: XrayDataset) -> None:
    weighted = TrainingConfig(epochs=1, batch_size=8, accelerator="cpu", class_weights=True)
    run(config(tmp_path / "plain", 1), dataset)
    run(config(tmp_path / "weighted", 1, training=weighted), dataset)
    losses = [
        load_checkpoint(tmp_path / name / "checkpoints").state["history"][0]["validation_loss"]
        for name in ("plain", "weighted")
    ]
    assert losses[1] > 1.2 * losses[0]


def history(losses: list[float], seconds: float = 10.0) -> list[EpochRow]:
    return [
        EpochRow(
            epoch=epoch,
            train_loss=0.0,
            reconstruction_loss=0.0,
            validation_loss=loss,
            validation_macro_auroc=0.5,
            seconds_a_step=0.1,
            seconds=seconds,
        )
        for epoch, loss in enumerate(losses, start=1)
    ]


def test_why_training_stops() -> None:
    limits = TrainingConfig(epochs=5, patience=2, max_minutes=1.0)
    assert stop_reason([], limits) is None
    assert stop_reason(history([3, 2, 1]), limits) is None
    assert stop_reason(history([3, 1, 2]), limits) is None
    assert stop_reason(history([3, 1, 2, 1]), limits) == "patience"
    assert stop_reason(history([5, 4, 3, 2, 1]), limits) == "epochs"
    assert stop_reason(history([3, 2], seconds=30.0), limits) == "time"
    assert best_epoch(history([3, 1, 2, 1])) == 2
