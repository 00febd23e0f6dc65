"""What a machine is called: by its product's number, by its generation where a hypervisor hides that."""

from pathlib import Path

import pytest

from bench import machine
from bench.results import machine_name


@pytest.mark.parametrize(
    ("text", "model", "folder"),
    [
        ("model name\t: AMD EPYC\ncpu family\t: 26\n", "AMD EPYC (family 26)", "amd-epyc-family-26-2-cores"),
        (
            "cpu family\t: 6\nmodel\t\t: 207\nmodel name\t: Intel(R) Xeon(R) Processor\n",
            "Intel(R) Xeon(R) Processor (model 207)",
            "intel-xeon-processor-model-207-2-cores",
        ),
        ("cpu family\t: 25\nmodel name\t: AMD EPYC 9654\n", "AMD EPYC 9654", "amd-epyc-9654-2-cores"),
        ("processor\t: 0\nmodel name\t: Cortex\n", "Cortex", "cortex-2-cores"),
    ],
)
def test_model_and_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, model: str, folder: str) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    monkeypatch.setattr(machine, "_CPU_FILE", file)
    assert machine.cpu_model() == model
    assert machine_name({"cpu": machine.cpu_model(), "cores": 2}) == folder
