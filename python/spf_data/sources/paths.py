"""Image files under a root, and nothing outside of it."""

import os
from pathlib import Path

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")


class PathError(ValueError):
    """A path that can not be used; `reason` is what a report counts it under."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def check_name(name: str) -> str:
    """`name`, if it is that of a file in a folder: no separators, no "..", not empty.

    Raises:
        PathError: If it is not.
    """
    if not name or name in (".", "..") or any(character in name for character in "/\\\0:"):
        raise PathError("invalid image name", "an image name must name a file, without a folder")
    return name


def check_inside(root: Path, relative: str) -> Path:
    """The file `relative` under `root`, links resolved.

    Args:
        root: A resolved folder.
        relative: A path relative to it.

    Raises:
        PathError: If it lies outside the root ("..", absolute, a link that leads out), is not there, or is empty.
    """
    try:
        path = (root / relative).resolve()
        if not path.is_relative_to(root) or path == root:
            raise PathError("path outside root", "an image's path leads out of the root")
        size = path.stat().st_size
        regular = path.is_file()
    except PathError:
        raise
    except FileNotFoundError as error:
        raise PathError("missing image", "an image does not exist under the root") from error
    # Impossible names, loops of links, folders that may not be entered.
    except (OSError, RuntimeError, ValueError) as error:
        raise PathError("unusable path", f"an image's path can not be used: {type(error).__name__}") from error
    if not regular:
        raise PathError("not a file", "an image's path leads to something else than a file")
    if size == 0:
        raise PathError("empty image file", "an image file holds no bytes")
    return path


class ImageIndex:
    """Where under a root each image file is, by its name: archives are unpacked to folders of any name.

    Attributes:
        twice: How many files share their name with an earlier one (in alphabetical order of their folders).
    """

    def __init__(self, root: Path) -> None:
        """Walk `root`; links to folders are not followed."""
        self.twice = 0
        self._paths: dict[str, str] = {}
        for folder, folders, files in os.walk(root):
            folders.sort()
            relative = Path(folder).relative_to(root)
            for name in sorted(files):
                if not name.lower().endswith(IMAGE_SUFFIXES):
                    continue
                if name in self._paths:
                    self.twice += 1
                else:
                    self._paths[name] = (relative / name).as_posix()

    def find(self, name: str) -> str:
        """Path of the image called `name`, relative to the root.

        Raises:
            PathError: If `name` is not a plain file name, or there is no such image.
        """
        if check_name(name) not in self._paths:
            raise PathError("missing image", "an image does not exist under the root")
        return self._paths[name]
