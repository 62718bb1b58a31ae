"""Files that two processes map: made whole, opened and looked at as words of 8 bytes."""

from __future__ import annotations

import ctypes
import os
import tempfile
import weakref
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
_FREE_BYTES = 64 * 2**20
"""Shared memory that is left to others; a container may have 64 MB in all."""
WORD = 8

_private: dict[Path, dict[str, memoryview]] = {}
"""Files of channels that could not be files, by folder and name."""
_READ_WRITE, _SHARED = 3, 1
_FAILED = ctypes.c_void_p(-1).value
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def channel_folder(run_folder: Path, need_bytes: int) -> Path:
    """Make a private folder for a channel, in shared memory or else in the run's folder.

    Args:
        run_folder: Used where there is no shared memory, or too little of it.
        need_bytes: What the channel will take.

    Raises:
        OSError: If neither can be written.
    """
    if _free_bytes(SHARED_MEMORY) > need_bytes + _FREE_BYTES:
        try:
            return Path(tempfile.mkdtemp(prefix="gainstage-", dir=SHARED_MEMORY))
        except OSError:
            pass  # a sandbox may show /dev/shm and refuse to write: the run's folder does as well
    return Path(tempfile.mkdtemp(prefix=".channel-", dir=run_folder))


def private_folder() -> Path:
    """Return a folder whose files are memory of this process alone: there is no room for others.

    Where files may not be as large as a ring (`ulimit -f`) or a disk is full, the observer is a
    thread, and a killed process takes its last half second with it.
    """
    folder = Path(f"/private-{len(_private)}-{os.getpid()}")
    _private[folder] = {}
    return folder


def forget_private(folder: Path) -> None:
    """Give back the memory of a folder that `private_folder` has made."""
    _private.pop(folder, None)


def create(path: Path, size: int) -> memoryview:
    """Make a file of zeros and map it.

    Its memory is reserved at once: a page that cannot be had later would end the process (SIGBUS).

    Raises:
        OSError: If there is no room, or the file cannot be made.
    """
    if path.parent in _private:
        memory = _private[path.parent][path.name] = memoryview(bytearray(size))
        return memory
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            os.ftruncate(descriptor, size)
        return _map(descriptor, size)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def open_mapped(path: Path) -> memoryview:
    """Map a file that `create` has made.

    Raises:
        OSError: If it is not there, or empty.
    """
    if path.parent in _private:
        return _private[path.parent][path.name]
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return _map(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def words_of(memory: memoryview, count: int) -> memoryview:
    """Return the first words of a mapped file; storing into one is a single aligned write."""
    return memory[: count * WORD].cast("q")


def _map(descriptor: int, size: int) -> memoryview:
    """Map a file without keeping its descriptor, which Python's own `mmap` does.

    A script may close whatever descriptors it likes (`os.closerange`) and get the same numbers for
    files of its own. The memory is given back with the last view of it.
    """
    address = _libc.mmap(None, size, _READ_WRITE, _SHARED, descriptor, 0)
    if address in (None, _FAILED):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    memory = (ctypes.c_char * size).from_address(address)
    # Not at the interpreter's end: exit handlers after ours may still hold a view.
    weakref.finalize(memory, _libc.munmap, address, size).atexit = False
    return memoryview(memory).cast("B")


def _free_bytes(folder: Path) -> int:
    try:
        room = os.statvfs(folder)
    except OSError:
        return 0
    return room.f_bavail * room.f_frsize
