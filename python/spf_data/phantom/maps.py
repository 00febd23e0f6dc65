"""Finding maps: what a good network would hand to the heads, one noisy map a finding."""

import numpy as np
import numpy.typing as npt

from spf_data.phantom.anatomy import FloatArray
from spf_data.phantom.catalogue import FINDINGS, finding_index
from spf_data.phantom.scene import Scene, to_bytes

# Grey level where nothing is found, so that noise can go below it.
_BACKGROUND = 0.25
# Standard deviations of the blurs, in shares of the map's width: of the findings, and of the smooth noise.
_FINDING_BLUR = 1 / 64
_NOISE_BLUR = 1 / 20
# A network's maps err in patches rather than pixel by pixel: smooth noise in units of the pixel noise.
_SMOOTH_NOISE = 3


def finding_maps(scene: Scene, random: np.random.Generator, noise: float) -> npt.NDArray[np.uint8]:
    """One map a finding: its masks of both sides, of random height, blurred, with pixel noise and smooth noise.

    Args:
        scene: A rendered scene.
        random: Source of heights and noise.
        noise: Standard deviation of the pixel noise, as a share of the full scale; the smooth noise is 3 times that.

    Returns:
        uint8 (findings, H, W). A finding's map says where it is, never by itself on which side.
    """
    size = scene.image.shape[0]
    maps = np.zeros((len(FINDINGS), size, size), dtype=np.float32)
    for spec, mask in zip(scene.specs, scene.masks, strict=True):
        channel = maps[finding_index(spec.name)]
        np.maximum(channel, mask * np.float32(random.uniform(0.2, 0.7)), out=channel)
    white = random.standard_normal((2, *maps.shape), dtype=np.float32)
    smooth = _blur(white[0], _NOISE_BLUR)
    # A Gaussian of standard deviation b pixels lowers that of white noise by 2 b sqrt(pi).
    smooth *= np.float32(_SMOOTH_NOISE * 2 * _NOISE_BLUR * size * np.sqrt(np.pi))
    maps = np.float32(_BACKGROUND) + _blur(maps, _FINDING_BLUR) + np.float32(noise) * (white[1] + smooth)
    return to_bytes(maps)


def _blur(maps: FloatArray, deviation: float) -> FloatArray:
    """Gaussian blur that wraps around, so that it treats the halves of the translated anatomy alike."""
    size = maps.shape[-1]
    down, across = np.fft.fftfreq(size) * size, np.fft.rfftfreq(size) * size
    response = np.exp(-2 * (np.pi * deviation) ** 2 * (down[:, None] ** 2 + across[None, :] ** 2))
    return np.asarray(np.fft.irfft2(np.fft.rfft2(maps) * response, maps.shape[-2:]), dtype=np.float32)
