"""The cache gives what the network gives, is found again, and is never half read."""

from pathlib import Path

import numpy as np
import pytest
import torch
from spf_data.boxes import mirrored_lungs
from spf_data.dataset import XrayDataset
from spf_data.labels import Label, LabelSet
from spf_net import cached_maps as module
from spf_net.backbones import build_backbone
from spf_net.cached_maps import CacheConfig, cached_maps, fingerprint, in_lung_frame
from spf_net.lung_frame import resample

RANDOM = CacheConfig(strides=(4, 8), largest_map=8, pretrained=False, seed=3)


def dataset(count: int = 20, seed: int = 0) -> XrayDataset:
    random = np.random.default_rng(seed)
    return XrayDataset(
        label_set=LabelSet((Label("right a", "a", "right"), Label("left a", "a", "left"))),
        images=random.integers(0, 256, (count, 1, 64, 64), dtype=np.uint8),
        labels=random.integers(0, 2, (count, 2)).astype(np.float32),
        patients=np.array([f"p{number}" for number in range(count)]),
        sources=np.full(count, "made"),
        report={},
    )


def test_maps_are_those_of_the_network_plain_and_mirrored(tmp_path: Path) -> None:
    data = dataset()
    cached = cached_maps(data, RANDOM, tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = build_backbone(RANDOM.backbone, RANDOM.strides, pretrained=False, frozen=True)
    images = torch.stack([data[row]["image"] for row in range(len(data))])
    with torch.inference_mode():
        plain, mirrored = network(images), network(images.flip(3))
    for kept, expected in ((cached.plain, plain), (cached.mirrored, mirrored)):
        assert kept[4].shape == (20, 24, 8, 8)
        assert kept[8].shape == (20, 40, 8, 8)
        # A map of 16x16 is averaged over blocks of 2x2; one of 8x8 stays.
        averaged = expected[0].unflatten(3, (8, 2)).unflatten(2, (8, 2)).mean((3, 5))
        for maps, truth in ((kept[4], averaged), (kept[8], expected[1])):
            error = (torch.from_numpy(np.array(maps)).float() - truth).abs().max()
            assert error <= 2e-3 * truth.abs().max()
    assert not np.array_equal(cached.plain[8], cached.mirrored[8][..., ::-1])


def test_a_second_call_reads_and_another_setting_or_image_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cached_maps(dataset(), RANDOM, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(module, "_extract", lambda *_: pytest.fail("computed again"))
        again = cached_maps(dataset(), RANDOM, tmp_path)
    assert again.folder == first.folder
    assert np.array_equal(again.plain[4], first.plain[4])
    other_seed = CacheConfig(strides=(4, 8), largest_map=8, pretrained=False, seed=4)
    assert cached_maps(dataset(), other_seed, tmp_path).folder != first.folder
    assert cached_maps(dataset(seed=1), RANDOM, tmp_path).folder != first.folder
    assert len({fingerprint(dataset()), fingerprint(dataset(19)), fingerprint(dataset(seed=1))}) == 3


def test_an_interrupted_cache_starts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extract = module._extract

    def interrupted(data: XrayDataset, config: CacheConfig) -> object:
        yield from list(extract(data, config))[:2]
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "_extract", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cached_maps(dataset(), RANDOM, tmp_path)
    (leftover,) = tmp_path.iterdir()
    assert leftover.name.startswith(".writing-")
    cached = cached_maps(dataset(), RANDOM, tmp_path)
    assert list(tmp_path.iterdir()) == [cached.folder]
    assert np.isfinite(cached.plain[4]).all()
    assert np.abs(cached.mirrored[8][-1]).max() > 0


def test_the_lung_frame_of_cached_maps_is_that_of_the_network() -> None:
    random = np.random.default_rng(0)
    maps = random.standard_normal((150, 2, 8, 8)).astype(np.float16)
    lungs = torch.from_numpy(random.uniform(0.1, 0.4, (150, 2, 4)).astype(np.float32))
    expected = resample(torch.from_numpy(maps).float(), lungs, 0.05)
    torch.testing.assert_close(in_lung_frame(maps, lungs, 0.05).float(), expected, rtol=1e-3, atol=1e-3)
    flipped = in_lung_frame(maps[..., ::-1].copy(), mirrored_lungs(lungs), 0.05)
    torch.testing.assert_close(flipped.flip(3).float(), expected, rtol=2e-3, atol=2e-3)
    with pytest.raises(ValueError, match=r"lungs must be \(150, 2, 4\), got \(3, 2, 4\)"):
        in_lung_frame(maps, lungs[:3], 0.05)


def test_maps_beyond_float16_are_refused() -> None:
    with pytest.raises(ValueError, match="within the range of float16, got 100000"):
        module._bounded(torch.full((1, 1, 2, 2), 1e5), 2)


def test_invalid_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="strides must be one or more positive integers, got"):
        CacheConfig(strides=())
    with pytest.raises(ValueError, match="largest_map must be positive"):
        CacheConfig(largest_map=0)
