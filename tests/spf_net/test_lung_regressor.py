"""The regressor that sees where the lungs are: its boxes, its files, its training, its script."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import train_lungs as script
from safetensors.torch import save
from spf_data import DataConfig, XrayDataset, build_dataset, grouped_split
from spf_net.config import parse_settings
from spf_net.lung_regressor import LungRegressor, box_iou, has_regressor, load_regressor, save_regressor
from spf_net.lung_training import LungConfig, train_lungs

CXR_ZONES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "cxr-zones"


@pytest.fixture(scope="module")
def dataset() -> XrayDataset:
    dataset = build_dataset(DataConfig(num_images=160, image_size=64, shift=0.08, seed=1))
    dataset.lung_boxes[::20, 1] = math.nan
    return dataset


def regressor(channels: int = 1) -> LungRegressor:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return LungRegressor(channels)


@pytest.mark.parametrize(("channels", "size"), [(1, 64), (3, 96), (1, 32)])
def test_boxes_of_images_of_any_size(channels: int, size: int) -> None:
    boxes = regressor(channels)(torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(0)))
    assert boxes.shape == (2, 2, 4)
    assert ((boxes > 0) & (boxes < 1)).all()


def test_intersection_over_union() -> None:
    box = torch.tensor([0.2, 0.2, 0.4, 0.4])
    others = torch.tensor(
        [
            [0.2, 0.2, 0.4, 0.4],
            [0.4, 0.2, 0.4, 0.4],
            [0.6, 0.2, 0.4, 0.4],
            [0.3, 0.3, 0.2, 0.2],
            [math.nan, 0.2, 0.4, 0.4],
        ]
    )
    expected = torch.tensor([1, 1 / 3, 0, 1 / 4, math.nan])
    torch.testing.assert_close(box_iou(box.expand(5, 4), others), expected, equal_nan=True)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    assert not has_regressor(tmp_path / "new")
    save_regressor(tmp_path / "new", regressor(3), {"note": 1})
    assert has_regressor(tmp_path / "new")
    loaded = load_regressor(tmp_path / "new")
    assert loaded.channels == 3
    assert all(torch.equal(*pair) for pair in zip(loaded.parameters(), regressor(3).parameters(), strict=True))
    assert json.loads((tmp_path / "new" / "lung_regressor.json").read_text())["details"] == {"note": 1}


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no lung regressor: train one with train_lungs\.py"):
        load_regressor(tmp_path)
    save_regressor(tmp_path, regressor(), {})
    weights, description = tmp_path / "lung_regressor.safetensors", tmp_path / "lung_regressor.json"
    document = json.loads(description.read_text())
    for content, message in (
        ("nothing", "must be JSON"),
        ("[1]", r"must have the format 'lung regressor 1', got \[1\]"),
        (json.dumps({**document, "format": "lung regressor 2"}), "got 'lung regressor 2'"),
        (json.dumps({**document, "sha256": "0"}), "is not the file that lung_regressor.json describes"),
        (json.dumps({**document, "channels": 2}), "does not hold the weights of a lung regressor"),
    ):
        description.write_text(content)
        with pytest.raises(ValueError, match=message):
            load_regressor(tmp_path)
    description.write_text(json.dumps(document))
    weights.write_bytes(save({"other": torch.zeros(3)}))
    with pytest.raises(ValueError, match="is not the file that"):
        load_regressor(tmp_path)


def test_it_learns_where_the_lungs_of_other_patients_are(dataset: XrayDataset) -> None:
    config = LungConfig(epochs=12, batch_size=16, lr=4e-3, seed=2)
    result = train_lungs(config, dataset)
    first = train_lungs(replace(config, epochs=1, lr=1e-9), dataset)
    assert np.nanmean(first.iou) < 0.5
    assert result.iou.mean() > 0.75
    assert result.without_boxes == 8
    parts = grouped_split(dataset.patients, config.split, config.seed)
    assert set(result.rows) == {
        row for part in ("validation", "test") for row in parts[part] if not dataset.lung_boxes[row].isnan().any()
    }
    assert result.trained_on + len(result.rows) + result.without_boxes == len(dataset)


def test_the_seed_decides_the_regressor(dataset: XrayDataset) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, second, other = (
        train_lungs(LungConfig(epochs=1, seed=seed), dataset).regressor.state_dict() for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_data_without_boxes_is_refused() -> None:
    blind = build_dataset(DataConfig(num_images=4, image_size=64))
    blind.lung_boxes[:] = math.nan
    with pytest.raises(ValueError, match="data must know some lung boxes, got 4 images without any"):
        train_lungs(LungConfig(), blind)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"flip": 1.5}, r"flip must be in \[0, 1\], got 1.5"),
        ({"lr": 0.0}, "lr must be positive, got 0.0"),
        ({"shift": -0.1}, "shift must not be negative, got -0.1"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LungConfig(**changes)  # type: ignore[arg-type]


def test_the_script_trains_reports_and_saves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data", "phantom", "--data.num_images=60", "--data.image_size=64", "--epochs=1"]
    arguments.append(f"--output={tmp_path / 'lungs'}")
    script.main(arguments)
    printed = capsys.readouterr().out
    assert "left out, as a box is unknown: 0 images" in printed
    assert "held out, all:" in printed
    assert load_regressor(tmp_path / "lungs").channels == 1
    details = json.loads((tmp_path / "lungs" / "lung_regressor.json").read_text())["details"]
    assert details["held_out_iou"]["all"][0] + details["trained_on"] == 60
    assert LungConfig(**{**details["config"], "data": DataConfig(**details["config"]["data"])}).epochs == 1
    with pytest.raises(SystemExit, match="holds a regressor: pass --overwrite to replace it"):
        script.main(arguments)
    script.main([*arguments, "--overwrite"])


def test_help_explains_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_settings(LungConfig, "Sees lungs.", ["--help"])
    assert ended.value.code == 0
    assert "Sees lungs." in capsys.readouterr().out


@pytest.mark.skipif(not CXR_ZONES.is_dir(), reason="needs ../shared/data/cxr-zones")
def test_real_lungs_are_met_at_least_roughly_after_a_few_epochs() -> None:
    data = DataConfig(name="cxr-zones", root=CXR_ZONES, image_size=64, require_labels=False)
    dataset = build_dataset(data)
    result = train_lungs(LungConfig(data=data, epochs=5), dataset)
    assert result.without_boxes == 5
    assert result.iou.mean() > 0.6
