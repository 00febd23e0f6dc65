"""How a script ends: one line for what the user can do something about, a traceback for a bug."""

from pathlib import Path

import pytest
from spf_net.launch import orderly_end
from torch import distributed

RESUME = "the same command with --resume goes on after the last whole epoch in runs/x"
GLOO = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer\nmore"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("grid must be positive, got 0"), "error: grid must be positive, got 0"),
        (OSError("could not write x: [Errno 28]"), "error: could not write x: [Errno 28]"),
        (KeyboardInterrupt(), f"stopped: {RESUME}"),
        (RuntimeError(GLOO), f"error: lost another process of this run ({GLOO.splitlines()[0]}); {RESUME}"),
        (distributed.DistBackendError("NCCL"), f"error: lost another process of this run (NCCL); {RESUME}"),
    ],
)
def test_one_line(error: BaseException, message: str) -> None:
    with pytest.raises(SystemExit) as ended, orderly_end(Path("runs/x")):
        raise error
    assert ended.value.code == message


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 can not be multiplied"), KeyError("x")])
def test_a_bug_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)), orderly_end(Path("runs/x")):
        raise error
