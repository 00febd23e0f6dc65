"""Every image of a manifest, decoded and resized once, in one memory-mapped file (docs/loading.md)."""

from spf_data.image_cache.cache import CachedImages, ImageCache, open_cache
from spf_data.image_cache.caching import available_cpus, cache_images

__all__ = ["CachedImages", "ImageCache", "available_cpus", "cache_images", "open_cache"]
