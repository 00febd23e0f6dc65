"""What the machine is called."""

import platform
from pathlib import Path

_CPU_FILE = Path("/proc/cpuinfo")


def cpu_model() -> str:
    """The processor's name, as far as the system tells."""
    if _CPU_FILE.exists():
        for line in _CPU_FILE.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
