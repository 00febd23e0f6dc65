"""What the heads see on cxr-zones: rows, frames, two levels, and codes that learn from no test patient."""

from pathlib import Path

import numpy as np
import pytest
import torch
from spf_data.cxr_zones import LABEL_SET
from spf_data.dataset import XrayDataset
from spf_net.cached_maps import CachedMaps
from spf_net.lung_frame import resample
from spf_net.study.phantom import PhantomStudy, Setting, parts
from spf_net.study.pretraining import STARTS, PretrainingConfig, codes
from spf_net.study.zone_maps import MARGIN, BothMaps, labelled, labelled_rows, maps_of


def data(images: int = 6) -> tuple[XrayDataset, CachedMaps]:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, (images, 6)).astype(np.float32)
    labels[1] = np.nan
    boxes = np.tile(np.array([[0.1, 0.2, 0.3, 0.5], [0.6, 0.2, 0.3, 0.6]], dtype=np.float32), (images, 1, 1))
    dataset = XrayDataset(
        label_set=LABEL_SET,
        images=np.zeros((images, 1, 32, 32), dtype=np.uint8),
        labels=labels,
        patients=np.arange(images).astype(str),
        sources=np.full(images, "nih-chestxray14"),
        report={},
        lung_boxes=boxes,
    )
    levels = {16: random.random((images, 3, 8, 8)), 32: random.random((images, 2, 4, 4))}
    plain = {stride: maps.astype(np.float16) for stride, maps in levels.items()}
    return dataset, CachedMaps(Path(), plain, {stride: maps[..., ::-1] for stride, maps in plain.items()})


def test_mirrored_maps_of_the_lung_frame_are_the_mirror_of_the_plain_ones() -> None:
    dataset, cached = data()
    rows = labelled_rows(dataset)
    assert rows.tolist() == [0, 2, 3, 4, 5]
    both = maps_of(cached, dataset, rows, "lungs", (16,))
    expected = resample(torch.from_numpy(cached.plain[16][rows]).float(), dataset.lung_boxes[rows], MARGIN)
    assert both.plain.float() == pytest.approx(expected.numpy(), abs=1e-3)
    assert both.mirrored.float() == pytest.approx(both.plain.flip(3).float().numpy(), abs=2e-3)
    assert torch.equal(labelled(both, dataset, rows).labels, dataset.labels[rows])


def test_a_coarser_level_is_repeated() -> None:
    dataset, cached = data()
    plain, _ = maps_of(cached, dataset, np.array([2, 4]), "image", (16, 32))
    assert plain.shape == (2, 5, 8, 8)
    assert torch.equal(plain[:, :3], torch.from_numpy(cached.plain[16][[2, 4]]))
    assert torch.equal(plain[:, 3:, 1::2, ::2], torch.from_numpy(cached.plain[32][[2, 4]]))


@pytest.mark.parametrize("start", STARTS)
def test_codes_do_not_depend_on_images_they_may_not_learn_from(start) -> None:
    random = torch.Generator().manual_seed(0)
    plain = torch.randn(40, 3, 6, 6, generator=random).half()
    both, config = BothMaps(plain, plain.flip(3)), PretrainingConfig(code_size=4, epochs=2, batch_size=8)
    rows = np.arange(30)
    state = torch.random.get_rng_state()
    first = codes(both, rows, start, config)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.plain.shape == first.mirrored.shape == (40, 3, 1, 4)
    changed = plain.clone()
    changed[30:] += 1
    second = codes(BothMaps(changed, changed.flip(3)), rows, start, config)
    assert torch.equal(first.plain[:30], second.plain[:30])
    assert not torch.equal(first.plain[30:], second.plain[30:])


def test_pre_training_keeps_more_of_the_maps_than_random_codes() -> None:
    # maps of rank 2: two numbers a map say everything
    random = np.random.default_rng(3)
    basis = random.standard_normal((2, 36))
    plain = torch.from_numpy((random.standard_normal((200, 1, 2)) @ basis).reshape(200, 1, 6, 6)).half()
    both = BothMaps(plain, plain)
    config = PretrainingConfig(code_size=2, epochs=40, lr=1e-2)
    lost = {}
    for start in ("random", "pre-trained"):
        code = codes(both, np.arange(200), start, config).plain.flatten(1).float()
        design = torch.cat([code, torch.ones(200, 1)], 1).double()
        target = plain.flatten(1).double()
        lost[start] = float((design @ torch.linalg.lstsq(design, target).solution - target).square().mean())
    assert lost["pre-trained"] <= lost["random"]
    assert lost["pre-trained"] < 0.01


def test_parts_of_the_phantom_share_no_patient_and_held_out_ones_stay() -> None:
    random = np.random.default_rng(5)
    patients = np.repeat(np.arange(100), random.integers(1, 4, 100)).astype(str)
    study = PhantomStudy(validation_images=20, test_images=40)
    small, large = (parts(study, patients, images) for images in (10, 50))
    for train, validation, test in (small, large):
        assert 40 <= len(test) <= 42
        assert 20 <= len(validation) <= 22
        for rows in train:
            assert not set(patients[rows]) & set(patients[np.concatenate([validation, test])])
        assert not set(patients[validation]) & set(patients[test])
    assert np.array_equal(small[2], large[2])
    assert [len(rows) for rows in small[0]] == [10] * 3
    assert not np.array_equal(small[0][0], small[0][1])
    with pytest.raises(ValueError, match="as many rows"):
        parts(study, patients, 10_000)


def test_the_middle_is_a_point_of_every_axis() -> None:
    study = PhantomStudy()
    for values in study.axes().values():
        assert list(values.values()).count(study.middle) == 1
    assert study.fit_of(Setting(images=200)).epochs == 100
    assert study.fit_of(Setting(images=10_000)).epochs == 8
