"""Why a network says what it says."""

from spf_net.explain.evidence import Evidence, evidence

__all__ = ["Evidence", "evidence"]
