"""Training: resuming is exact, stopping is said, nothing is overwritten unasked."""

import csv
import shutil
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
from spf_net.heads import HEADS, GradMode, HeadConfig, HeadName
from spf_net.history import EpochRow, best_epoch, stop_reason
from spf_net.launch import start_fabric
from spf_net.lung_frame import FrameConfig
from spf_net.lung_regressor import LungRegressor, save_regressor
from spf_net.training import TrainingResult, train

from .forks import Forks
from .test_processes import STILL, WAYS


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


LEVERS = {"flip": 0.5, "accumulation": 2}


@pytest.mark.parametrize("grad_mode", ["dense", "factored"])
def test_resuming_is_exact_with_flips_lung_frame_accumulation_and_dropout(
    tmp_path: Path, dataset: XrayDataset, grad_mode: GradMode
) -> None:
    settings = config(tmp_path / "whole", 4, frame=FrameConfig("lungs"), optimizer=OptimizerConfig(grad_mode=grad_mode))
    settings = replace(settings, training=replace(settings.training, **LEVERS))
    whole = run(settings, dataset)
    parts = replace(settings, output=tmp_path / "parts")
    run(replace(parts, training=replace(parts.training, epochs=2, patience=2)), dataset)
    torch.rand(3)
    resumed = run(replace(parts, resume=True), dataset)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    np.testing.assert_array_equal(whole.scores, resumed.scores)


@pytest.mark.parametrize("changes", [{"flip": 0.5}, {"accumulation": 2}])
def test_each_lever_changes_the_weights(tmp_path: Path, dataset: XrayDataset, changes: dict[str, Any]) -> None:
    settings = config(tmp_path / "plain", 1)
    run(settings, dataset)
    changed = replace(settings, output=tmp_path / "changed", training=replace(settings.training, **changes))
    run(changed, dataset)
    assert not same(weights(tmp_path / "plain"), weights(tmp_path / "changed"))


def still(output: Path, batch_size: int, accumulation: int, **changes: Any) -> RunConfig:
    """Without what each batch draws for itself."""
    settings = config(output, 2, head=HeadConfig(code_size=32), **changes)
    training = replace(
        settings.training,
        batch_size=batch_size,
        accumulation=accumulation,
        rotation=0.0,
        shift=0.0,
        class_weights=True,
        precision="64-true",
    )
    return replace(settings, training=training, extractor=replace(settings.extractor, dropout=0.0))


@pytest.mark.parametrize("grad_mode", ["dense", "factored"])
def test_batches_accumulate_to_one_larger_batch(
    tmp_path: Path, dataset: XrayDataset, monkeypatch: pytest.MonkeyPatch, grad_mode: GradMode
) -> None:
    monkeypatch.setenv("SPF_FACTORED_STRICT", "1")
    # With its usual eps NAdam blows the rounding of a gradient that is next to nothing up to a whole step.
    optimizer = OptimizerConfig(grad_mode=grad_mode, eps=1e-3)
    # Neither 15 nor 5 divides the number of images: the last step and the last batch are smaller.
    once = run(still(tmp_path / "once", 15, 1, optimizer=optimizer), dataset)
    thrice = run(still(tmp_path / "thrice", 5, 3, optimizer=optimizer), dataset)
    # Losses leave Fabric's network in float32, whatever the weights are.
    for name, weight in weights(tmp_path / "once").items():
        torch.testing.assert_close(weights(tmp_path / "thrice")[name], weight, rtol=0, atol=1e-7)
    np.testing.assert_allclose(thrice.scores, once.scores, rtol=0, atol=1e-6)
    histories = [load_checkpoint(tmp_path / name / "checkpoints").state["history"] for name in ("once", "thrice")]
    for first, second in zip(*histories, strict=True):
        for name in ("train_loss", "reconstruction_loss"):
            assert second[name] == pytest.approx(first[name], rel=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_accumulate_to_the_batch_of_one(forks: Forks, tmp_path: Path, way: str) -> None:
    still = [*STILL, "--precision=64-true", "--frame=lungs", "--training.epochs=2", "--optimizer.eps=1e-3"]
    assert forks.run([*still, "--training.batch_size=8", f"--output={tmp_path / 'one'}"], tmp_path / "log") == 0
    halves = ["--training.batch_size=2", "--training.accumulation=2", f"--output={tmp_path / 'two'}"]
    assert forks.run_ranks([*still, *halves, *WAYS[way]], tmp_path) == [0, 0]
    for name, weight in weights(tmp_path / "one").items():
        torch.testing.assert_close(weights(tmp_path / "two")[name], weight, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", HEADS)
def test_every_head_trains_with_and_without_the_levers(tmp_path: Path, dataset: XrayDataset, name: HeadName) -> None:
    head = HeadConfig(name=name, code_size=3, projections=8)
    save_regressor(tmp_path / "lungs", LungRegressor(1), {})
    for source in ("image", "lungs", "predicted"):
        settings = config(
            tmp_path / source,
            1,
            head=head,
            frame=FrameConfig(source, regressor=tmp_path / "lungs"),  # type: ignore[arg-type]
        )
        flip = 0.0 if source == "image" else 0.5
        result = run(replace(settings, training=replace(settings.training, flip=flip)), dataset)
        assert np.isfinite(result.scores).all()
        assert np.ptp(result.scores, axis=0).max() > 0


def test_images_without_a_frame_are_counted_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = build_dataset(DataConfig(num_images=60, image_size=64, seed=1))
    some.lung_boxes[:7, 1] = float("nan")
    run(config(tmp_path / "some", 2, frame=FrameConfig("lungs")), some)
    said = capsys.readouterr().out
    assert said.count("lung frame: the whole image for 7 of 60 images, whose lung boxes are unknown") == 1
    some.lung_boxes[:] = float("nan")
    with pytest.raises(ValueError, match="frame must be 'image' or 'predicted' for data without lung boxes"):
        run(config(tmp_path / "none", 1, frame=FrameConfig("lungs")), some)
    assert not (tmp_path / "none").exists()


def test_the_lung_regressor_stays_as_it_was_and_goes_with_the_checkpoint(tmp_path: Path, dataset: XrayDataset) -> None:
    regressor = LungRegressor(1)
    save_regressor(tmp_path / "lungs", regressor, {})
    settings = config(tmp_path / "run", 1, frame=FrameConfig("predicted", regressor=tmp_path / "lungs"))
    run(settings, dataset)
    # A resumed run has no need of the file.
    shutil.rmtree(tmp_path / "lungs")
    run(replace(settings, resume=True, training=replace(settings.training, epochs=2)), dataset)
    saved = weights(tmp_path / "run")
    for name, tensor in regressor.state_dict().items():
        assert torch.equal(saved[f"lung_regressor.{name}"], tensor)
    with pytest.raises(FileNotFoundError, match="holds no lung regressor"):
        run(replace(settings, overwrite=True), dataset)
    assert same(weights(tmp_path / "run"), saved)


def test_a_lung_regressor_of_other_images_is_refused(tmp_path: Path, dataset: XrayDataset) -> None:
    save_regressor(tmp_path / "lungs", LungRegressor(3), {})
    with pytest.raises(ValueError, match="must be for images of 1 channels, got 3"):
        run(config(tmp_path / "run", 1, frame=FrameConfig("predicted", regressor=tmp_path / "lungs")), dataset)


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
    levers = config(tmp_path, 2, resume=True, frame=FrameConfig("lungs", margin=0.2))
    levers = replace(levers, training=replace(levers.training, **LEVERS))
    expected = (
        r"frame.margin was 0.05, got 0.2, frame.source was 'image', got 'lungs', "
        r"training.accumulation was 1, got 2, training.flip was 0.0, got 0.5"
    )
    with pytest.raises(ValueError, match=expected):
        run(levers, dataset)


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
