"""Keep freed memory in the process.

A training step frees and allocates the same gigabyte again; given back to the kernel each time, it comes back as
zeroed pages, whose faults were a fifth of the processor's time on two cores.
"""

from __future__ import annotations

import ctypes
import platform

# From malloc.h of the GNU C library.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Tell glibc to serve large blocks from a heap that does not shrink; False where there is no glibc."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 * 2**20))
    return all(mallopt(name, value) == 1 for name, value in settings)
