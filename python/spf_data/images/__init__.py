"""Radiographs from image files: PNG, JPEG and DICOM, whatever they are called."""

from spf_data.images.errors import ImageError, Reason
from spf_data.images.reading import Radiograph, read_image, read_radiograph
from spf_data.images.shape import square

__all__ = ["ImageError", "Radiograph", "Reason", "read_image", "read_radiograph", "square"]
