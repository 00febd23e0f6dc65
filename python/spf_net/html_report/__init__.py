"""An evaluation as one HTML file that needs nothing else."""

from spf_net.html_report.document import render_report

__all__ = ["render_report"]
