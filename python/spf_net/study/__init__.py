"""Where does SPF win? Heads compared on cached maps, on the phantom along three axes, on cxr-zones by folds."""
