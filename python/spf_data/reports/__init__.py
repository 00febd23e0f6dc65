"""Labels with side and place from the text of a radiology report."""

from spf_data.reports.labeller import label_mentions, label_report

__all__ = ["label_mentions", "label_report"]
