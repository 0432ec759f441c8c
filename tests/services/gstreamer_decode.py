"""Reads an MP4 with GStreamer and writes what it says about itself as one JSON object.

Runs in Debian's Python, which has GStreamer's bindings; see ``gstreamer.read``. Times are in
nanoseconds after edit lists.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gi  # type: ignore[import-not-found]

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # type: ignore[import-not-found]  # noqa: E402

# Headers are written once, in front, so that pictures are told apart by their slices alone.
PICTURE = (
    "filesrc name=file ! qtdemux name=d"
    " d.video_0 ! queue ! h264parse config-interval=0"
    " ! video/x-h264,stream-format=byte-stream,alignment=au ! appsink name=video sync=false"
)
SOUND = (
    " d.audio_0 ! queue ! aacparse ! tee name=t"
    " t. ! queue max-size-time=0 max-size-buffers=0 ! appsink name=units sync=false"
    " t. ! queue max-size-time=0 max-size-buffers=0 ! faad ! audioconvert"
    " ! audio/x-raw,format=F32LE,channels=1 ! appsink name=blocks sync=false"
)


def buffers(sink: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Yield each buffer with its segment and its format."""
    while (sample := sink.emit("pull-sample")) is not None:
        yield sample.get_buffer(), sample.get_segment(), sample.get_caps().get_structure(0)


def pictures(sink: Any, stream: Path) -> list[dict[str, int]]:
    """Write the coded pictures one after the other and tell their times."""
    found = []
    with stream.open("wb") as file:
        for buffer, segment, _ in buffers(sink):
            file.write(buffer.extract_dup(0, buffer.get_size()))
            # Decoding may start before the segment, so plain numbers and not running times.
            shown, decoded = (time - segment.start for time in (buffer.pts, buffer.dts))
            found.append({"shown": shown, "decoded": decoded, "lasts": buffer.duration})
    return found


def sound(pipeline: Any) -> dict[str, Any]:
    """Find the first loud sample, and where the sound starts and ends.

    FAAD2 may give nothing for the first unit it gets, and the element then hands each block out
    with the time of the one before. So a block's time is taken from the unit that it comes from,
    counted from the end.
    """
    times, lasts, ends = [], 0, 0
    for buffer, segment, _ in buffers(pipeline.get_by_name("units")):
        times.append(buffer.pts - segment.start)
        lasts, ends = segment.stop - segment.start, times[-1] + buffer.duration
    first, rate, count = None, 0, 0
    for buffer, _, caps in buffers(pipeline.get_by_name("blocks")):
        rate = caps.get_value("rate")
        values = memoryview(buffer.extract_dup(0, buffer.get_size())).cast("f")
        loud = next((n for n, value in enumerate(values) if abs(value) > 0.3), None)
        if first is None and loud is not None:
            first = count, loud
        count += 1
    if len(times) - count not in (0, 1):
        sys.exit(f"{len(times)} units of AAC decode to {count} blocks")
    onset = first and times[first[0] + len(times) - count] + first[1] * Gst.SECOND / rate
    return {"rate": rate, "onset": onset, "starts": times[0], "ends": ends, "lasts": lasts}


def main(path: str, stream: str, with_sound: bool) -> None:
    """Read one file."""
    Gst.init(None)
    pipeline = Gst.parse_launch(PICTURE + (SOUND if with_sound else ""))
    pipeline.get_by_name("file").set_property("location", path)
    pipeline.set_state(Gst.State.PLAYING)
    found: dict[str, Any] = {}
    found["pictures"] = pictures(pipeline.get_by_name("video"), Path(stream))
    if with_sound:
        found["sound"] = sound(pipeline)
    error = pipeline.get_bus().pop_filtered(Gst.MessageType.ERROR)
    pipeline.set_state(Gst.State.NULL)
    if error is not None:
        sys.exit(str(error.parse_error()))
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], "--sound" in sys.argv)
