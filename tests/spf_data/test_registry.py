from dataclasses import fields

import pytest
from jsonargparse import ArgumentParser
from spf_data import DataConfig, PhantomConfig, PhantomDataset, build_dataset
from spf_data.cxr_zones import REQUIRED_COLUMNS
from spf_data.manifest_dataset import ManifestDataset

from tests.spf_data.manifests import SIDES, make_images, write


def test_the_phantom_gets_every_setting():
    config = DataConfig(num_images=2, image_size=64, shift=0.08, mode="maps", noise=0.1, finding_size=1.5, seed=4)
    dataset = build_dataset(config)
    assert isinstance(dataset, PhantomDataset)
    names = [field.name for field in fields(PhantomConfig)]
    assert {name: getattr(dataset.config, name) for name in names} == {name: getattr(config, name) for name in names}


def test_defaults_are_those_of_the_phantom():
    for field in fields(PhantomConfig):
        assert getattr(DataConfig(), field.name) == field.default


def test_cxr_zones_is_read_from_its_root(tmp_path):
    (tmp_path / "labels.csv").write_text(",".join(REQUIRED_COLUMNS) + "\n")
    with pytest.raises(ValueError, match="no usable row"):
        build_dataset(DataConfig(name="cxr-zones", root=tmp_path))


def test_cxr_zones_needs_a_root():
    with pytest.raises(ValueError, match="root must be"):
        build_dataset(DataConfig(name="cxr-zones"))


def test_a_manifest_is_cached_and_then_needs_no_images(tmp_path):
    path = write(tmp_path / "m.parquet", make_images(tmp_path / "root", 5, unreadable=(3,)))
    settings = {"name": "manifest", "manifest": path, "cache": tmp_path / "cache", "image_size": 16}
    with pytest.raises(FileNotFoundError, match="holds no image cache"):
        build_dataset(DataConfig(**settings))
    dataset = build_dataset(DataConfig(root=tmp_path / "root", **settings))
    assert isinstance(dataset, ManifestDataset)
    assert (len(dataset), dataset.image_size, sum(dataset.report.values())) == (4, 16, 1)
    (tmp_path / "root").rename(tmp_path / "gone")
    chosen = build_dataset(DataConfig(labels=SIDES[::-1], split_from="settings", **settings))
    assert (len(chosen), chosen.label_set.names, chosen.split) == (4, SIDES[::-1], None)


@pytest.mark.parametrize("missing", ["manifest", "cache"])
def test_a_manifest_needs_its_paths(tmp_path, missing):
    settings = {"manifest": tmp_path / "m.parquet", "cache": tmp_path / "cache"} | {missing: None}
    with pytest.raises(ValueError, match="manifest and cache must be paths, got"):
        build_dataset(DataConfig(name="manifest", **settings))


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="got 'mimic'"):
        build_dataset(DataConfig(name="mimic"))


def test_a_command_line_sets_the_fields_and_shows_their_meaning():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data", type=DataConfig, default=DataConfig())
    arguments = ["--data.name=cxr-zones", "--data.root=somewhere", "--data.on_error=skip", "--data.image_size=64"]
    arguments += ["--data.labels=[right nodule, left nodule]", "--data.manifest=m.parquet"]
    config = DataConfig(**parser.parse_args(arguments).data.as_dict())
    shown = " ".join(parser.format_help().split())
    assert (config.name, str(config.root), config.on_error, config.image_size) == ("cxr-zones", "somewhere", "skip", 64)
    assert (config.labels, str(config.manifest)) == (("right nodule", "left nodule"), "m.parquet")
    assert "share of the full scale" in shown
