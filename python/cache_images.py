"""Decode and resize every image of a manifest once: `python python/cache_images.py --help` (docs/loading.md).

Training does it, too; this does it beforehand, or on another machine.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from spf_data.image_cache import ImageCache, available_cpus, cache_images
from spf_data.manifest import read_manifest


def main(arguments: Sequence[str]) -> int:
    """Fill one cache as the arguments say; 0, or 2 after an error that a user can do something about."""
    parsed = _parser().parse_args(arguments)
    try:
        manifest = read_manifest(parsed.manifest)
        cache = cache_images(
            parsed.cache, manifest, parsed.root, parsed.image_size, workers=parsed.workers, retry=parsed.retry
        )
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped: the same command goes on", file=sys.stderr)
        return 2
    print(_text(cache))
    if parsed.list_unreadable:
        print("\n".join(f"row {row}: {reason}" for row, reason in cache.unreadable()))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder that the manifest's paths are relative to")
    parser.add_argument("--manifest", type=Path, required=True, help="what prepare_data.py wrote")
    parser.add_argument("--cache", type=Path, required=True, help="folder, new or as an earlier call left it")
    parser.add_argument("--image-size", type=int, required=True, help="pixels a side")
    parser.add_argument("--workers", type=int, default=available_cpus(), help="processes that decode; 0: this one")
    parser.add_argument("--retry", action="store_true", help="try images again that could not be read")
    parser.add_argument("--list-unreadable", action="store_true", help="print the manifest's rows of these images")
    return parser


def _text(cache: ImageCache) -> str:
    unreadable = cache.unreadable_counts()
    lines = [f"{len(cache) - sum(unreadable.values()):,} of {len(cache):,} images cached in {cache.folder}"]
    lines += [f"  {count:,} could not be read: {reason}" for reason, count in unreadable.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
