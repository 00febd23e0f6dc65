"""The script, from the command line to the files it leaves."""

import csv
import json
import logging
from pathlib import Path

import numpy as np
import predict
import pytest
import torch
from PIL import Image
from spf_data.labels import Label, LabelSet
from spf_data.registry import DataConfig
from spf_net.config import RunConfig
from spf_net.explain import evidence
from spf_net.explain.overlay import onto_image, overlay
from spf_net.explain.pictures import EvidencePictures
from spf_net.extractor import ExtractorConfig
from spf_net.inference import Prediction, Run, as_input, load_run, predict_files
from spf_net.lung_frame import FrameConfig, resample
from spf_net.network import build_network

from tests.spf_data.dicom_files import dataset, radiograph, save

from .tiny_run import save_images, train_tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tiny(tmp_path_factory.mktemp("run"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    save_images(tmp_path / "images")
    return tmp_path / "images"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as opened:
        return list(csv.DictReader(opened))


def test_a_folder_to_csv(trained: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (images / ".hidden.png").write_bytes(b"")
    code = predict.main([str(trained), str(images), "--output", str(tmp_path / "out" / "all.csv"), "--batch-size=2"])
    assert code == predict.ALL_READ
    rows = rows_of(tmp_path / "out" / "all.csv")
    # Files of a folder come before its subfolders.
    assert [row["file"] for row in rows] == [str(images / name) for name in ("b1.png", "b2.png", "a/1.png")]
    assert {row["status"] for row in rows} == {"ok"}
    names = load_run(trained).label_set.names
    assert list(rows[0]) == ["file", "status", *names]
    assert all(0 <= float(row[name]) <= 1 for row in rows for name in names)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("not a medical device") == 1
    assert "3 files: 3 read; 3 do not state their view" in printed.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["all.csv"]


def test_json_has_the_same_numbers_as_csv(trained: Path, images: Path, tmp_path: Path) -> None:
    for name in ("all.csv", "all.json"):
        assert predict.main([str(trained), str(images), "--output", str(tmp_path / name)]) == predict.ALL_READ
    document = json.loads((tmp_path / "all.json").read_text())
    assert document["labels"] == list(load_run(trained).label_set.names)
    for row, entry in zip(rows_of(tmp_path / "all.csv"), document["files"], strict=True):
        assert (row["file"], row["status"]) == (entry["file"], entry["status"])
        assert {name: float(row[name]) for name in document["labels"]} == entry["probabilities"]


def test_refused_files_are_in_the_output(
    trained: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "c.txt").write_text("no image")
    save(dataset(ViewPosition="LL"), images / "lateral.dcm")
    save(dataset(radiograph(1, 64, 64), ViewPosition="AP"), images / "frontal.dcm")
    arguments = [str(trained), str(images), str(tmp_path / "absent.png"), "--output", str(tmp_path / "out.csv")]
    assert predict.main(arguments) == predict.SOME_REFUSED
    statuses = {Path(row["file"]).name: row["status"] for row in rows_of(tmp_path / "out.csv")}
    assert statuses == {
        "1.png": "ok",
        "b1.png": "ok",
        "b2.png": "ok",
        "c.txt": "unknown format",
        "frontal.dcm": "ok",
        "lateral.dcm": "not frontal",
        "absent.png": "missing file",
    }
    refused = [row for row in rows_of(tmp_path / "out.csv") if row["status"] != "ok"]
    assert {value for row in refused for value in list(row.values())[2:]} == {""}
    expected = "7 files: 4 read, 3 refused (1 missing file, 1 not frontal, 1 unknown format); 3 do not state"
    assert expected in capsys.readouterr().err


def test_not_one_usable_file(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    arguments = [str(trained), str(tmp_path / "a.png"), "--output", str(tmp_path / "out.json")]
    assert predict.main(arguments) == predict.FAILED
    assert json.loads((tmp_path / "out.json").read_text())["files"] == [
        {"file": str(tmp_path / "a.png"), "status": "empty file", "probabilities": {}}
    ]


def test_on_error_raise_leaves_the_output_as_it_was(
    trained: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "zz.png").write_bytes(b"")
    output = tmp_path / "out.csv"
    output.write_text("before")
    assert predict.main([str(trained), str(images), "--output", str(output), "--on-error=raise"]) == predict.FAILED
    assert f"error: {images / 'zz.png'}: empty file" in capsys.readouterr().err
    assert output.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out.csv"]


def test_a_list_and_some_labels_in_their_order(trained: Path, images: Path, tmp_path: Path) -> None:
    known = load_run(trained).label_set.names
    names = [known[5], known[0]]
    # As an editor on Windows would write it.
    (tmp_path / "list.txt").write_bytes(f"\ufeff{images / 'b2.png'}\r\n\r\n{images / 'a'}\r\n".encode())
    arguments = [str(trained), f"@{tmp_path / 'list.txt'}", "--output", str(tmp_path / "out.csv"), "--labels", *names]
    assert predict.main(arguments) == predict.ALL_READ
    rows = rows_of(tmp_path / "out.csv")
    assert [row["file"] for row in rows] == [str(images / "b2.png"), str(images / "a" / "1.png")]
    assert list(rows[0]) == ["file", "status", *names]


def test_odd_file_names(trained: Path, images: Path, tmp_path: Path) -> None:
    odd = [images / 'comma, "quote"\nline.png', Path(f"{images}/latin\udce9.png")]
    for path in odd:
        path.write_bytes((images / "b1.png").read_bytes())
    for name in ("out.csv", "out.json"):
        assert predict.main([str(trained), *map(str, odd), "--output", str(tmp_path / name)]) == predict.ALL_READ
    assert [row["file"] for row in rows_of(tmp_path / "out.csv")] == [str(path) for path in odd]
    document = json.loads((tmp_path / "out.json").read_text())
    assert [entry["file"] for entry in document["files"]] == [str(path) for path in odd]


USAGE = {
    "unknown ending": (["{images}", "--output", "{tmp}/out.txt"], "must end with .csv or .json"),
    "unknown label": (["{images}", "--output", "{tmp}/out.csv", "--labels", "sunburn"], "'sunburn' is not one of the"),
    "no such list": (["@{tmp}/absent.txt", "--output", "{tmp}/out.csv"], "absent.txt"),
    "no text list": (["@{tmp}/images/b1.png", "--output", "{tmp}/out.csv"], "b1.png must be a list in UTF-8"),
    "empty folder": (["{tmp}/empty", "--output", "{tmp}/out.csv"], "there is no file in"),
    "output among the inputs": (["{images}", "--output", "{images}/out.csv"], "must lie outside of the folders"),
    "evidence among the inputs": (
        ["{images}", "--output", "{tmp}/out.csv", "--evidence", "{images}/new"],
        "must lie outside of the folders",
    ),
    "output is an input": (
        ["{images}/b1.png", "--output", "{images}/../images/b1.png", "--format=csv"],
        "is one of the files that are read",
    ),
    "no such device": (["{images}", "--output", "{tmp}/out.csv", "--device", "abacus"], "'abacus' can not be used"),
    "no batch": (["{images}", "--output", "{tmp}/out.csv", "--batch-size", "0"], "batch_size must be positive"),
    "no overlay": (
        ["{images}", "--output", "{tmp}/out.csv", "--evidence", "{tmp}/evidence", "--top", "0"],
        "top must be positive, got 0",
    ),
}


@pytest.mark.parametrize("name", USAGE)
def test_usage_errors(
    name: str, trained: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, message = USAGE[name]
    (tmp_path / "empty").mkdir()
    given = [argument.format(images=images, tmp=tmp_path) for argument in arguments]
    assert predict.main([str(trained), *given]) == predict.FAILED
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "images"]
    assert Image.open(images / "b1.png").size == (64, 64)


def test_a_folder_that_holds_no_run(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict.main([str(images), str(images), "--output", str(tmp_path / "out.csv")]) == predict.FAILED
    assert "run must be a folder that train.py has written" in capsys.readouterr().err


def test_help_states_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        predict.main(["--help"])
    assert ended.value.code == 0
    assert "Exit codes: 0 every file was read; 1 some files were refused" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        predict.main([])
    assert ended.value.code == predict.FAILED


def test_evidence_of_the_most_probable_labels(trained: Path, images: Path, tmp_path: Path) -> None:
    (images / "aa.png").write_bytes(b"")
    arguments = [str(trained), str(images), "--output", str(tmp_path / "out.csv"), "--top=2"]
    assert predict.main([*arguments, "--evidence", str(tmp_path / "evidence")]) == predict.SOME_REFUSED
    drawn = sorted(path.name for path in (tmp_path / "evidence").iterdir())
    names = load_run(trained).label_set.names
    expected = []
    for number, row in enumerate(rows_of(tmp_path / "out.csv"), start=1):
        if row["status"] == "ok":
            values = np.array([float(row[name]) for name in names])
            top = np.argsort(-values, kind="stable")[:2]
            expected += [f"{number:06d}-{label:03d}-{names[label].replace(' ', '-')}.png" for label in top]
    assert len(expected) == 6
    assert drawn == sorted(expected)
    with Image.open(tmp_path / "evidence" / drawn[0]) as picture:
        assert picture.mode == "RGB"
        assert picture.width == 512
        assert picture.info == {}


def test_evidence_that_does_not_exist_is_refused_before_work(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train_tiny(tmp_path / "run", "--head.activation=sigmoid")
    arguments = [str(folder), str(images), "--output", str(tmp_path / "out.csv")]
    assert predict.main([*arguments, "--evidence", str(tmp_path / "evidence")]) == predict.FAILED
    assert "sigmoid" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()
    assert predict.main(arguments) == predict.ALL_READ


def test_no_patient_field_leaves_the_files(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    folder = tmp_path / "images"
    folder.mkdir()
    save(dataset(radiograph(1, 64, 64)), folder / "good.dcm")
    save(dataset(radiograph(1, 64, 64), BodyPartExamined="KNEE"), folder / "knee.dcm")
    damaged = save(dataset(WindowCenter=12345, WindowWidth=5), folder / "damaged.dcm")
    damaged.write_bytes(damaged.read_bytes().replace(b"12345.0 ", b"CANARY^P"))
    for name in ("out.csv", "out.json"):
        arguments = [str(trained), str(folder), "--output", str(tmp_path / name)]
        assert predict.main([*arguments, "--evidence", str(tmp_path / "evidence")]) == predict.SOME_REFUSED
        assert predict.main([*arguments, "--on-error=raise"]) == predict.FAILED
    assert [row["status"] for row in rows_of(tmp_path / "out.csv")] == ["unusable lookup table", "ok", "not a chest"]
    written = [path for path in tmp_path.rglob("*") if path.is_file() and folder not in path.parents]
    assert len(written) == 2 + 3
    assert not any(b"CANARY" in path.read_bytes() for path in written)
    printed = capfd.readouterr()
    assert "CANARY" not in printed.out + printed.err + caplog.text


def test_overlay_colours_by_sign_and_leaves_the_rest() -> None:
    image = np.full((512, 512), 100, dtype=np.uint8)
    evidence = np.zeros((4, 4), dtype=np.float32)
    evidence[0, 0], evidence[3, 3] = 2.0, -1.0
    pixels = np.asarray(overlay(image, evidence, "one line")).astype(int)
    assert pixels.shape[1] == 512
    assert pixels.shape[0] > 512
    first, last, between = pixels[20, 20], pixels[490, 490], pixels[20, 490]
    assert first[0] > 150 > first[2]
    assert last[2] > last[0]
    assert abs(last - 100).max() < abs(first - 100).max()
    np.testing.assert_array_equal(between, 100)
    grey = np.asarray(overlay(image, np.zeros((4, 4), np.float32), ""))[:512]
    np.testing.assert_array_equal(grey, 100)
    for wrong in (np.zeros(4, np.float32), np.full((4, 4), np.nan, np.float32)):
        with pytest.raises(ValueError, match="evidence"):
            overlay(image, wrong, "")


def test_evidence_of_a_predicted_frame_is_drawn_where_the_lungs_are(images: Path, tmp_path: Path) -> None:
    config = RunConfig(
        DataConfig(image_size=64),
        ExtractorConfig(widths=(4,), num_maps=3),
        FrameConfig("predicted", regressor=Path("none")),
    )
    label_set = LabelSet((Label("nodule", "nodule", "none"),))
    network = build_network(config.extractor, config.head, 1, 64, 1, seed=0, frame=config.frame).eval()
    run = Run(network, label_set, config)
    assert network.lung_regressor is not None
    pictures = EvidencePictures(run, [0], 1, tmp_path / "evidence", "cpu")
    (read,) = pictures.drawn(predict_files(run, [str(images / "b1.png")]))
    assert isinstance(read, Prediction)
    inputs = as_input(read.image[None], "cpu")
    with torch.no_grad():
        lungs = network.lung_regressor(inputs)
    drawn = onto_image(evidence(network, inputs).maps, lungs, config.frame.margin)[0, 0].numpy()
    with Image.open(tmp_path / "evidence" / "000001-000-nodule.png") as picture:
        expected = np.asarray(overlay(read.image, drawn, "1\n2\n3\n4"))
        np.testing.assert_array_equal(np.asarray(picture)[:512], expected[:512])


def test_evidence_goes_back_to_where_the_frame_took_it_from() -> None:
    lungs = torch.tensor([[[0.5, 0.5, 0.2, 0.4], [0.8, 0.5, 0.2, 0.4]]])
    maps = torch.rand(1, 2, 16, 16, generator=torch.Generator().manual_seed(0)) + 0.1
    moved = onto_image(maps, lungs, margin=0.0)
    torch.testing.assert_close(moved.sum((2, 3)), maps.sum((2, 3)))
    assert moved[..., :7, :].abs().max() == 0
    assert moved[..., :, :7].abs().max() == 0
    # The transpose of the frame: <moved, x> is <maps, frame of x> for any x.
    other = torch.rand(1, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close((moved * other).sum(), (maps * resample(other, lungs, 0.0)).sum())
