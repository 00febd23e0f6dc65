"""How much of a study is done, and when it is expected to end."""

from typing import NoReturn

from tqdm import tqdm


class Progress:
    """A bar that counts the images which the fits see at most; stored fits take no time and count nowhere."""

    def __init__(self, title: str, work: int) -> None:
        """Show an empty bar.

        Args:
            title: Before the bar.
            work: Images of all fits, stored ones too.
        """
        self._left = work
        self._bar: tqdm[NoReturn] = tqdm(total=work, desc=title, unit="image", unit_scale=True, mininterval=5)

    def fitted(self, work: int) -> None:
        """A fit has ended."""
        self._bar.update(work)

    def stored(self, work: int) -> None:
        """A fit was found on the disk: it says nothing about the time that is left."""
        self._left -= work
        self._bar.total = self._left

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()
