"""The only code that touches libespeak-ng: a short-lived process, standard library only.

espeak-ng keeps its flutter, noise and phase in C statics that neither ``espeak_Terminate`` nor a
new voice resets, so a second call in the same process gives other samples than the first. One
process per script gives the same samples every time, and needs no lock around a global library.

Protocol: a JSON request on stdin; on stdout one JSON line (``sample_rate``, ``count``, ``runs``:
per run its length in samples and its ``[mnemonic, sample]`` events), then the samples as
little-endian int16. A failure is a line on stderr and exit code 1.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import tempfile
from typing import Any

import espeakng_loader

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS
_INIT_PHONEME_EVENTS = 0x0001
_INIT_DONT_EXIT = 0x8000
_EVENT_END, _EVENT_PHONEME = 0, 7
_RATE, _PITCH = 1, 3
_UTF8 = 1  # espeakCHARS_UTF8; the SSML (0x10) and phoneme-input (0x100) flags stay off
_SEED = 1
_LONGEST_DATA_PATH = 120  # path_home is a fixed 160-byte buffer, and names are appended to it


class _EventId(ctypes.Union):
    _fields_ = (
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class _Collector:
    """Receives the samples and phoneme events of one run."""

    def __init__(self) -> None:
        self.samples = bytearray()
        self.events: list[tuple[str, int]] = []
        self.callback = _Callback(self._receive)

    def _receive(self, wave: Any, count: int, events: Any) -> int:
        if wave and count > 0:
            self.samples += ctypes.string_at(wave, 2 * count)
        index = 0
        while events[index].type != _EVENT_END:
            event = events[index]
            if event.type == _EVENT_PHONEME:
                # Read as raw bytes: the eight-byte field is not always null-terminated.
                raw = bytes(event.id)[:8].split(b"\0", 1)[0]
                self.events.append((raw.decode("utf-8", "replace"), event.sample))
            index += 1
        return 0


def _short_data_path(scratch: str) -> str:
    path = str(espeakng_loader.get_data_path())
    if len(path.encode()) <= _LONGEST_DATA_PATH:
        return path
    link = os.path.join(scratch, "espeak-ng-data")
    os.symlink(path, link)
    return link


def _check(status: int, what: str) -> None:
    if status != 0:
        raise RuntimeError(f"espeak-ng: {what} failed with status {status}")


def _synthesise(request: dict[str, Any], scratch: str) -> tuple[dict[str, Any], bytes]:
    library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int,
        ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p,
    ]  # fmt: skip
    library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
    path = _short_data_path(scratch).encode()
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, path, _INIT_PHONEME_EVENTS | _INIT_DONT_EXIT)
    if rate <= 0:
        raise RuntimeError(f"espeak-ng: no usable data in {path.decode()}")
    library.espeak_ng_SetRandSeed(_SEED)
    runs, samples = [], b""
    for run in request["runs"]:
        collector = _Collector()
        library.espeak_SetSynthCallback(collector.callback)
        _check(library.espeak_SetVoiceByName(run["voice"].encode()), f"voice {run['voice']}")
        _check(library.espeak_SetParameter(_RATE, request["rate_wpm"], 0), "setting the rate")
        _check(library.espeak_SetParameter(_PITCH, request["pitch"], 0), "setting the pitch")
        text = run["text"].encode() + b"\0"
        _check(library.espeak_Synth(text, len(text), 0, 1, 0, _UTF8, None, None), "synthesis")
        _check(library.espeak_Synchronize(), "synthesis")
        runs.append({"count": len(collector.samples) // 2, "events": collector.events})
        samples += bytes(collector.samples)
    return {"sample_rate": rate, "count": len(samples) // 2, "runs": runs}, samples


def main() -> int:
    """Serve one request; return the exit code."""
    request = json.load(sys.stdin)
    # The library prints diagnostics; stdout belongs to the protocol.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory(prefix="espeak-") as scratch:
        try:
            header, samples = _synthesise(request, scratch)
        except (OSError, RuntimeError) as error:
            sys.stderr.write(f"{error}\n")
            return 1
    out.write(json.dumps(header).encode() + b"\n" + samples)
    out.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
