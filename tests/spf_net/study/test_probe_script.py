"""The probe as a command: from a manifest to the table that train.py prints too."""

import json
from pathlib import Path

import numpy as np
import probe as script
import pytest
from PIL import Image

from tests.spf_data.manifests import SIDES, make_manifest, places, write

ROWS = 36
PLACES = places(**{"right opacity": ("opacity", "right"), "left opacity": ("opacity", "left")})


def make_stripes(root: Path, known: bool = True) -> list[str]:
    """A manifest of images with stripes on the side that their labels name, the patient's right on the left."""
    labels = {
        name: [(row // 3 + row // (6 * (1 + side))) % 2 for row in range(ROWS)] for side, name in enumerate(SIDES)
    }
    random = np.random.default_rng(0)
    names = [f"{row:02d}.png" for row in range(ROWS)]
    for row, name in enumerate(names):
        pixels = random.integers(0, 60, (64, 64)).astype(np.uint8)
        for side, label in enumerate(SIDES):
            if labels[label][row]:
                pixels[:, 32 * side : 32 * side + 32] += np.uint8(150) * (np.arange(32) % 8 < 4)
        Image.fromarray(pixels).save(root / name)
    if not known:
        labels["left opacity"] = [0] * ROWS
    manifest = write(root / "m.parquet", make_manifest(names, labels, PLACES))
    options = {
        "--data": "manifest",
        "--data.manifest": manifest,
        "--data.root": root,
        "--data.cache": root / "cache",
        "--data.image_size": 64,
        "--resamples": 5,
        "--output": root / "probe",
    }
    return [str(part) for pair in options.items() for part in pair]


@pytest.mark.parametrize("flip", ["false", "true"])
def test_stripes_are_seen_on_their_side(tmp_path: Path, capsys: pytest.CaptureFixture[str], flip: str) -> None:
    arguments = make_stripes(tmp_path)
    script.main([*arguments, "--flip", flip])
    assert "12 " in capsys.readouterr().out
    found = json.loads((tmp_path / "probe" / "results.json").read_text())["evaluation"]["all"]
    assert found["images"] == ROWS // 3
    assert found["metrics"]["macro_auroc"]["value"] == 1
    assert found["metrics"]["side_auc"]["value"] == 1
    assert (tmp_path / "probe" / "results.md").read_text().startswith("| images from")
    with pytest.raises(SystemExit, match=r"error: .*--overwrite"):
        script.main(arguments)


def test_what_can_not_be_fitted_ends_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = make_stripes(tmp_path, known=False)
    with pytest.raises(SystemExit, match=r"error: labels must be 1 and 0 .* 'left opacity' is not"):
        script.main(arguments)
    assert not (tmp_path / "probe").exists()
    with pytest.raises(SystemExit):
        script.main([*arguments, "--frame", "predicted"])
    assert "frame must be 'image' or 'lungs'" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="error: frame must be 'image' for data without lung boxes"):
        script.main([*arguments, "--frame", "lungs"])
