"""Train the regressor that sees where the lungs are: `python python/train_lungs.py --help`."""

import sys

import numpy as np
from spf_data.dataset import XrayDataset
from spf_data.registry import build_dataset
from spf_net.config import config_to_dict, parse_settings
from spf_net.lung_regressor import has_regressor, save_regressor
from spf_net.lung_training import LungConfig, LungResult, train_lungs


def main(arguments: list[str]) -> None:
    """Train as the arguments say, print how well the boxes of patients held out are met, and save the regressor."""
    config = parse_settings(LungConfig, "Train a regressor that sees where the lungs are in a chest X-ray.", arguments)
    try:
        run(config)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def run(config: LungConfig) -> None:
    """Train one regressor."""
    if has_regressor(config.output) and not config.overwrite:
        raise FileExistsError(f"{config.output} holds a regressor: pass --overwrite to replace it, or another --output")
    dataset = build_dataset(config.data)
    print(f"{config.data.name}: {len(dataset)} images; dropped: {dataset.dropped}")
    result = train_lungs(config, dataset)
    iou = mean_iou(result, dataset)
    print(
        f"trained on {result.trained_on} images in {result.seconds:.0f} s; left out, as a box is unknown: "
        f"{result.without_boxes} images"
    )
    for name, (images, mean, lowest) in iou.items():
        print(f"held out, {name}: {images} images, mean IoU {mean:.3f}, lowest {lowest:.3f}")
    details = {"config": config_to_dict(config), "trained_on": result.trained_on, "without_boxes": result.without_boxes}
    save_regressor(config.output, result.regressor, {**details, "held_out_iou": iou})


def mean_iou(result: LungResult, dataset: XrayDataset) -> dict[str, tuple[int, float, float]]:
    """Images, mean and lowest IoU over images and lungs, of all images held out and of each source if several."""
    sources = dataset.sources[result.rows]
    subsets = {"all": np.full(len(sources), True)}
    if len(np.unique(sources)) > 1:
        subsets |= {str(source): sources == source for source in np.unique(sources)}
    return {
        name: (int(chosen.sum()), float(result.iou[chosen].mean()), float(result.iou[chosen].min()))
        for name, chosen in subsets.items()
    }


if __name__ == "__main__":
    main(sys.argv[1:])
