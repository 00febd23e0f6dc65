from pathlib import Path

import pytest

from tests.spf_data.manifests import make_images, make_manifest, write

PYTHON = Path(__file__).resolve().parents[2] / "python"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(PYTHON))
    import cache_images

    return cache_images


def _arguments(tmp_path, manifest, *more):
    path = write(tmp_path / "m.parquet", manifest)
    options = {"--root": tmp_path, "--manifest": path, "--cache": tmp_path / "cache", "--image-size": 8, "--workers": 0}
    return [*(str(part) for pair in options.items() for part in pair), *more]


def test_it_says_how_many_images_could_not_be_read_and_names_no_file(tmp_path, script, capsys):
    manifest = make_images(tmp_path, 6, unreadable=(2,))
    assert script.main(_arguments(tmp_path, manifest, "--list-unreadable")) == 0
    printed = capsys.readouterr().out
    assert "5 of 6 images cached in" in printed
    assert "  1 could not be read: " in printed
    assert "row 2: " in printed
    assert ".png" not in printed


def test_errors_are_one_line(tmp_path, script, capsys):
    arguments = _arguments(tmp_path, make_manifest(["missing.png"]))
    assert script.main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: root must be the folder of the manifest's images")
    (tmp_path / "m.parquet").unlink()
    assert script.main(arguments) == 2
    assert "does not exist" in capsys.readouterr().err


def test_an_interrupt_says_how_to_go_on(tmp_path, script, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "cache_images", interrupt)
    assert script.main(_arguments(tmp_path, make_images(tmp_path, 1))) == 2
    assert capsys.readouterr().err == "stopped: the same command goes on\n"


def test_its_help_names_every_option(script, capsys):
    with pytest.raises(SystemExit):
        script.main(["--help"])
    printed = capsys.readouterr().out
    for option in ("root", "manifest", "cache", "image-size", "workers", "retry", "list-unreadable"):
        assert f"--{option}" in printed
