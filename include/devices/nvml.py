"""What NVIDIA's management library says of the GPUs here, through ctypes.

Only what placing and health need. The library comes with the driver; its functions are as in nvml.h
of driver 470 and later. A question that a device cannot answer (``NVML_ERROR_NOT_SUPPORTED``) is
answered with None; one that fails means that the device is lost.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from include.devices.health import Readings

LIBRARY = "libnvidia-ml.so.1"
NOT_SUPPORTED = 3
_FUNCTION_NOT_FOUND = 13
_UNCORRECTED, _VOLATILE, _AGGREGATE = 1, 0, 1
_GPU_TEMPERATURE, _SLOWDOWN, _SHUTDOWN = 0, 1, 0
_SM_CLOCK = 1
_OLD_REASONS = "nvmlDeviceGetCurrentClocksThrottleReasons"


class NvmlError(Exception):
    """The library is not there, or says no."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class _Memory(ctypes.Structure):
    """``nvmlMemory_t``."""

    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


class Nvml:
    """The library, initialised; see ``opened``."""

    def __init__(self, library: str = LIBRARY) -> None:
        try:
            self._library = ctypes.CDLL(library)
        except OSError as error:
            raise NvmlError(f"{library} cannot be loaded: {error}") from error

    def readings(self) -> list[Readings]:
        """Every device in the order of its PCI address.

        Raises:
            NvmlError: the driver cannot say how many there are.
        """
        count = ctypes.c_uint()
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        return [self._device(index) for index in range(count.value)]

    def _device(self, index: int) -> Readings:
        """One device; ``lost`` says what failed."""
        device = ctypes.c_void_p()
        found: dict[str, Any] = {"index": index, "uuid": f"index-{index}", "name": "unknown"}
        try:
            self._call("nvmlDeviceGetHandleByIndex_v2", index, ctypes.byref(device))
            found["uuid"] = self._text("nvmlDeviceGetUUID", device)
            found["name"] = self._text("nvmlDeviceGetName", device)
            memory = _Memory()
            self._call("nvmlDeviceGetMemoryInfo", device, ctypes.byref(memory))
            found["total_mib"], found["free_mib"] = memory.total >> 20, memory.free >> 20
            found |= self._memory_errors(device) | self._heat_and_clocks(device)
        except NvmlError as error:
            found["lost"] = str(error)
        return Readings(**found)

    def _memory_errors(self, device: ctypes.c_void_p) -> dict[str, Any]:
        get = "nvmlDeviceGetTotalEccErrors"
        counts = [
            self._number(ctypes.c_ulonglong, get, device, _UNCORRECTED, kind)
            for kind in (_VOLATILE, _AGGREGATE)
        ]
        rows = [ctypes.c_uint() for _ in range(4)]  # corrected, uncorrected, pending, failed
        pointers = [ctypes.byref(row) for row in rows]
        known = self._try("nvmlDeviceGetRemappedRows", device, *pointers)
        pages = self._number(ctypes.c_int, "nvmlDeviceGetRetiredPagesPendingStatus", device)
        return {
            "ecc_volatile": counts[0],
            "ecc_aggregate": counts[1],
            "remap_pending": bool(rows[2].value) if known else None,
            "remap_failed": bool(rows[3].value) if known else None,
            "pages_pending": None if pages is None else bool(pages),
        }

    def _heat_and_clocks(self, device: ctypes.c_void_p) -> dict[str, Any]:
        def uint(name: str, *arguments: int) -> int | None:
            return self._number(ctypes.c_uint, name, device, *arguments)

        # One function under the name of new drivers, and of old ones.
        for name in ("nvmlDeviceGetCurrentClocksEventReasons", _OLD_REASONS):
            reasons = self._number(ctypes.c_ulonglong, name, device)
            if reasons is not None:
                break
        return {
            "temperature": uint("nvmlDeviceGetTemperature", _GPU_TEMPERATURE),
            "slowdown_at": uint("nvmlDeviceGetTemperatureThreshold", _SLOWDOWN),
            "shutdown_at": uint("nvmlDeviceGetTemperatureThreshold", _SHUTDOWN),
            "clock_mhz": uint("nvmlDeviceGetClockInfo", _SM_CLOCK),
            "clock_most_mhz": uint("nvmlDeviceGetMaxClockInfo", _SM_CLOCK),
            "throttle": reasons,
        }

    def _number(self, kind: Callable[[], Any], name: str, *arguments: Any) -> int | None:
        value = kind()
        return int(value.value) if self._try(name, *arguments, ctypes.byref(value)) else None

    def _text(self, name: str, device: ctypes.c_void_p) -> str:
        buffer = ctypes.create_string_buffer(96)
        self._call(name, device, buffer, len(buffer))
        return buffer.value.decode(errors="replace")

    def _try(self, name: str, *arguments: Any) -> bool:
        """Call a function that not every device or driver has; False where it is not there."""
        try:
            self._call(name, *arguments)
        except NvmlError as error:
            if error.code in (NOT_SUPPORTED, _FUNCTION_NOT_FOUND):
                return False
            raise
        return True

    def _call(self, name: str, *arguments: Any) -> None:
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise NvmlError(f"{name} is not in this driver", _FUNCTION_NOT_FOUND) from None
        code = function(*arguments)
        if code:
            raise NvmlError(f"{name}: {self._said(code)}", code)

    def _said(self, code: int) -> str:
        say = self._library.nvmlErrorString
        say.restype = ctypes.c_char_p
        text: bytes | None = say(code)
        return text.decode(errors="replace") if text else f"error {code}"


@contextmanager
def opened(library: str = LIBRARY) -> Iterator[Nvml]:
    """The library, initialised, and shut down afterwards.

    Raises:
        NvmlError: it is not there, or finds no driver.
    """
    nvml = Nvml(library)
    nvml._call("nvmlInit_v2")
    try:
        yield nvml
    finally:
        with suppress(NvmlError):  # what was read stands
            nvml._call("nvmlShutdown")
