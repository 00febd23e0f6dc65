"""What the machine is called."""

import platform
from pathlib import Path

_CPU_FILE = Path("/proc/cpuinfo")


def cpu_model() -> str:
    """The processor's name, as far as the system tells.

    A hypervisor may hide the product's number ("AMD EPYC"). Then the family says which generation it is or, as all of
    Intel's are of family 6, the model.
    """
    if not _CPU_FILE.exists():
        return platform.processor() or platform.machine()
    found: dict[str, str] = {}
    for line in _CPU_FILE.read_text().splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    name = found.get("model name") or platform.machine()
    family = found.get("cpu family")
    if family is None or any(character.isdigit() for character in name):
        return name
    return f"{name} (model {found.get('model')})" if family == "6" else f"{name} (family {family})"
