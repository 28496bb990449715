"""Whether a kernel confines processes."""

import ctypes
import errno
import platform
from typing import Any

import pytest
from coffea_shoppe_contract import confinement


class Kernel:
    """A C library whose calls fail as a kernel's do."""

    def __init__(self, landlock: int, filters: int) -> None:
        self.landlock, self.filters = landlock, filters

    def syscall(self, *_: Any) -> int:
        return self.landlock

    def prctl(self, *_: Any) -> int:
        ctypes.set_errno(self.filters)
        return -1


def test_this_kernel_is_supported() -> None:
    assert confinement.is_supported()


@pytest.mark.parametrize(
    ("landlock", "filters", "machine", "is_supported"),
    [
        (1, errno.EFAULT, "x86_64", True),
        (6, errno.EFAULT, "aarch64", True),
        (-1, errno.EFAULT, "x86_64", False),
        (6, errno.EINVAL, "x86_64", False),
        (6, errno.EPERM, "x86_64", False),
        (6, errno.EFAULT, "riscv64", False),
    ],
)
def test_landlock_seccomp_and_the_architecture_count(
    monkeypatch: pytest.MonkeyPatch, landlock: int, filters: int, machine: str, is_supported: bool
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Kernel(landlock, filters))
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert confinement.is_supported() is is_supported
