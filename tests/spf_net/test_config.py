"""Settings from defaults, files and the command line."""

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from spf_net.config import RunConfig, TrainingConfig, build_parser, config_to_dict, parse_config
from spf_net.heads import HeadConfig
from spf_net.lung_frame import FrameConfig

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "python" / "configs").glob("*.yaml"))


def test_defaults() -> None:
    assert parse_config([]) == RunConfig()


@pytest.mark.parametrize("arguments", [["--data", "cxr-zones"], ["--data=cxr-zones"], ["--data.name", "cxr-zones"]])
def test_a_section_takes_its_name(arguments: list[str]) -> None:
    config = parse_config([*arguments, "--data.root", "some/folder", "--data.on_error", "skip"])
    assert (config.data.name, config.data.root, config.data.on_error) == ("cxr-zones", Path("some/folder"), "skip")


def test_what_holds_for_the_phantom_does_not_bind_other_data() -> None:
    arguments = ["--data", "cxr-zones", "--data.image_size", "1024"]
    assert parse_config(arguments).data.image_size == 1024
    with pytest.raises(SystemExit):
        parse_config(["--data", "phantom", "--data.image_size", "1024"])


def test_head_extractor_and_frame_take_their_names_too() -> None:
    config = parse_config(["--head", "square_pooling", "--extractor", "none", "--frame", "lungs"])
    assert (config.head.name, config.extractor.name, config.frame.source) == ("square_pooling", "none", "lungs")


def test_several_processes_and_the_optimizer_have_short_forms() -> None:
    arguments = ["--devices", "2", "--strategy=ddp", "--precision", "bf16-mixed"]
    config = parse_config([*arguments, "--optim.grad_mode", "dense", "--optim.state_dtype=bfloat16"])
    training = config.training
    assert (training.devices, training.strategy, training.precision) == (2, "ddp", "bf16-mixed")
    assert (config.optimizer.grad_mode, config.optimizer.state_dtype) == ("dense", "bfloat16")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--resume"], True),
        (["--resume", "--head", "spf"], True),
        (["--resume", "false"], False),
        (["--resume=true"], True),
        ([], False),
    ],
)
def test_resume_is_a_switch(arguments: list[str], expected: bool) -> None:
    assert parse_config(arguments).resume is expected


def test_the_command_line_overrides_files_and_later_files_earlier_ones(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("optimizer:\n  lr: 0.5\ntraining:\n  epochs: 3\n  patience: 2\n")
    second.write_text("training:\n  epochs: 4\n")
    config = parse_config([f"--config={first}", f"--config={second}", "--training.patience", "7"])
    assert (config.optimizer.lr, config.training.epochs, config.training.patience) == (0.5, 4, 7)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_files_in_configs_are_valid(path: Path) -> None:
    assert parse_config(["--config", str(path)]) != RunConfig()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--unknown", "1"],
        ["--head", "unknown"],
        ["--training.epochs", "many"],
        ["--training.epochs", "0"],
        ["--data.shift", "0.5"],
    ],
)
def test_bad_settings_end_with_a_message(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        parse_config(arguments)
    assert exit_info.value.code == 2
    assert arguments[0].removeprefix("--").split(".")[-1] in capsys.readouterr().err


def test_bad_training_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="patience must be at least 1, got 0"):
        TrainingConfig(patience=0)
    with pytest.raises(ValueError, match=r"shift must not be negative, got -0.1"):
        TrainingConfig(shift=-0.1)
    with pytest.raises(ValueError, match="max_minutes must be positive, got 0"):
        TrainingConfig(max_minutes=0)
    with pytest.raises(ValueError, match="timeout must be positive, got 0"):
        TrainingConfig(timeout=0)
    with pytest.raises(ValueError, match="accumulation must be at least 1, got 0"):
        TrainingConfig(accumulation=0)
    with pytest.raises(ValueError, match=r"flip must be in \[0, 1\], got 1.5"):
        TrainingConfig(flip=1.5)


def test_a_predicted_frame_needs_a_regressor() -> None:
    with pytest.raises(ValueError, match=r"regressor must be what train_lungs\.py wrote"):
        RunConfig(frame=FrameConfig("predicted"))
    config = parse_config(["--frame=predicted", "--frame.regressor=some/folder", "--frame.margin=0.1"])
    assert config.frame == FrameConfig("predicted", 0.1, Path("some/folder"))


def test_strategies_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="strategy must be 'ddp' or 'map_parallel' for 2 devices, got 'single'"):
        TrainingConfig(devices=2)
    with pytest.raises(ValueError, match=r"precision must be 'bf16-mixed' or .* map_parallel, got '16-mixed'"):
        TrainingConfig(strategy="map_parallel", precision="16-mixed")
    with pytest.raises(ValueError, match="strategy must be 'single' or 'ddp' for the head 'square_pooling', got 'map_"):
        RunConfig(head=HeadConfig("square_pooling"), training=TrainingConfig(strategy="map_parallel"))


def leaves(default: Any, prefix: str = "") -> list[str]:
    names = []
    for field in fields(default):
        value = getattr(default, field.name)
        names += leaves(value, f"{prefix}{field.name}.") if is_dataclass(value) else [prefix + field.name]
    return names


def test_help_explains_every_field() -> None:
    described = {action.dest: action.help for action in build_parser()._actions}
    missing = [name for name in leaves(RunConfig()) if len(described[name] or "") < 15]
    assert leaves(RunConfig())
    assert not missing


def test_settings_written_as_json_can_be_read_again(tmp_path: Path) -> None:
    config = parse_config(["--data.root", "some/folder", "--extractor.widths", "[3,4]"])
    written = tmp_path / "config.json"
    written.write_text(json.dumps(config_to_dict(config)))
    assert parse_config(["--config", str(written)]) == config
