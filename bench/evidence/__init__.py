"""Evidence beside other explanations: how long it takes, where it points; `python -m bench.evidence` runs it."""
