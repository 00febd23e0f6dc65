"""From a run's folder to the same network, and from files to its probabilities."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from spf_net.checkpoint import load_checkpoint
from spf_net.inference import Prediction, Refusal, Run, load_run, predict_files
from spf_net.network import NetworkOutput

from .tiny_run import phantom_images, save_images, train_tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tiny(tmp_path_factory.mktemp("run"))


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "run", symlinks=True)
    return tmp_path / "run"


def probabilities(run: Run) -> torch.Tensor:
    images = torch.from_numpy(np.stack(phantom_images()))[:, None] / 255
    with torch.no_grad():
        output: NetworkOutput = run.network(images)
    return output.logits.sigmoid()


def test_the_network_is_the_one_of_the_best_epoch(trained: Path) -> None:
    state = torch.get_rng_state()
    run = load_run(trained)
    assert torch.equal(torch.get_rng_state(), state)
    saved = load_checkpoint(trained / "checkpoints", best=True)
    weights = run.network.state_dict()
    assert weights.keys() == saved.model.keys()
    assert all(torch.equal(weights[name], value) for name, value in saved.model.items())
    assert not run.network.training
    assert [asdict(label) for label in run.label_set.labels] == saved.state["settings"]["labels"]
    assert len(run.label_set) == 57
    assert run.config.data.image_size == 64
    assert run.config.extractor.num_maps == 3


def test_weights_and_state_are_all_that_is_needed(copy: Path, trained: Path) -> None:
    for name in ("optimizer.safetensors", "../../results.json"):
        (copy / "checkpoints" / "best" / name).resolve().unlink(missing_ok=True)
    assert torch.equal(probabilities(load_run(copy)), probabilities(load_run(trained)))


def change(key: list[str], value: Any) -> Callable[[Path], None]:
    def apply(best: Path) -> None:
        document = json.loads((best / "state.json").read_text())
        inner = document
        for name in key[:-1]:
            inner = inner[name]
        if value is None:
            del inner[key[-1]]
        else:
            inner[key[-1]] = value
        (best / "state.json").write_text(json.dumps(document))

    return apply


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda best: (best / name).write_bytes(content)


CONFIG = ["state", "settings", "config"]
NODULE = {"name": "nodule", "finding": "nodule", "side": "none", "zone": ""}
DAMAGE: dict[str, tuple[type[Exception], str, Callable[[Path], object]]] = {
    "no weights": (FileNotFoundError, "model.safetensors", lambda best: (best / "model.safetensors").unlink()),
    "no state": (FileNotFoundError, "state.json", lambda best: (best / "state.json").unlink()),
    "other format": (ValueError, "must have checkpoint format 1, got 99", change(["format"], 99)),
    "no json": (ValueError, "not valid JSON", write("state.json", b"{")),
    "not utf-8": (ValueError, "not valid JSON", write("state.json", b"\xff\xfe\xfd")),
    "a list": (ValueError, "must have checkpoint format 1, got list", write("state.json", b"[1]")),
    "no settings": (ValueError, "lacks settings", change(["state", "settings"], None)),
    "no labels": (ValueError, r"lacks the settings \['labels'\]", change(["state", "settings", "labels"], None)),
    "unknown setting": (ValueError, "not those of this version", change([*CONFIG, "head", "colour"], "red")),
    "invalid setting": (ValueError, "not those of this version", change([*CONFIG, "extractor", "num_maps"], -1)),
    "other sizes": (ValueError, "does not fit the network", change([*CONFIG, "extractor", "num_maps"], 5)),
    "fewer labels": (ValueError, "does not fit the network", change(["state", "settings", "labels"], [NODULE])),
    "labels of old": (ValueError, "labels in .* are not those", change(["state", "settings", "labels"], ["a", "b"])),
    "odd labels": (ValueError, "labels in .* are not those", change(["state", "settings", "labels"], [NODULE] * 2)),
    "damaged weights": (ValueError, "model.safetensors is damaged", write("model.safetensors", b"\x80\x04pickle")),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_wrong_with_a_run_is_said(name: str, copy: Path) -> None:
    error, message, damage = DAMAGE[name]
    damage(copy / "checkpoints" / "best")
    with pytest.raises(error, match=message):
        load_run(copy)


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"run must be a folder that train\.py has written"):
        load_run(tmp_path)


@pytest.mark.parametrize(("batch_size", "num_workers"), [(1, 0), (2, 0), (16, 2)])
def test_files_come_out_in_order_with_the_networks_probabilities(
    batch_size: int, num_workers: int, trained: Path, tmp_path: Path
) -> None:
    run, paths = load_run(trained), save_images(tmp_path / "images")
    (tmp_path / "text").write_text("no image")
    given = [str(paths[0]), str(tmp_path / "text"), str(paths[1]), str(paths[2]), str(tmp_path / "absent")]
    state = torch.get_rng_state()
    results = list(predict_files(run, given, batch_size, num_workers=num_workers))
    assert torch.equal(torch.get_rng_state(), state)
    assert [result.path for result in results] == given
    refused = [result.error.reason for result in results if isinstance(result, Refusal)]
    assert refused == ["unknown format", "missing file"]
    used = [result for result in results if isinstance(result, Prediction)]
    np.testing.assert_allclose([result.probabilities for result in used], probabilities(run), atol=1e-6)
    for result, image in zip(used, phantom_images(), strict=True):
        np.testing.assert_array_equal(result.image, image)


def test_files_are_read_as_they_are_asked_for(trained: Path, tmp_path: Path) -> None:
    paths = save_images(tmp_path / "images")
    results = predict_files(load_run(trained), [str(path) for path in paths], batch_size=1)
    assert isinstance(next(results), Prediction)
    Image.new("L", (8, 8)).save(paths[1])
    second = next(results)
    assert isinstance(second, Refusal)
    assert second.error.reason == "blank image"


def test_numbers_out_of_range(trained: Path) -> None:
    run = load_run(trained)
    for batch_size, num_workers in [(0, 0), (1, -1)]:
        with pytest.raises(ValueError, match=f"got {batch_size} and {num_workers}"):
            predict_files(run, [], batch_size, num_workers=num_workers)


def test_a_network_that_computes_nothing_is_an_error(trained: Path, tmp_path: Path) -> None:
    run = load_run(trained)
    with torch.no_grad():
        run.network.classifier.bias[3] = float("nan")
    results = predict_files(run, [str(save_images(tmp_path / "images")[0])])
    with pytest.raises(FloatingPointError, match="not finite"):
        next(results)


def test_feature_maps_are_not_files(tmp_path: Path) -> None:
    run = load_run(train_tiny(tmp_path, "--data.mode=maps", "--extractor=none"))
    assert run.network.extractor.num_maps == 18
    with pytest.raises(ValueError, match="feature maps"):
        predict_files(run, ["image.png"])


def test_lung_boxes_are_not_in_files(tmp_path: Path) -> None:
    run = load_run(train_tiny(tmp_path, "--frame=lungs"))
    with pytest.raises(ValueError, match="no lung boxes"):
        predict_files(run, ["image.png"])
