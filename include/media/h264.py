"""The few bits of H.264 that joining GOPs needs: NAL units, and the number of an IDR picture.

Two IDR pictures in a row must have different ``idr_pic_id`` (ITU-T H.264, 7.4.3). Encoders count
it, but every run starts at zero, so when a run of one frame is followed by another run, one of the
numbers has to change. A decoder that splits pictures by their slice headers (7.4.1.2.4) would
otherwise take both for one picture.

Names in the code are those of the standard's syntax tables 7.3.2.1.1, 7.3.2.2 and 7.3.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_LENGTH_BYTES = 4
_SLICE_TYPES_I = (2, 7)
_SLICE_IDR = 5
_PROFILES_WITH_CHROMA_FORMAT = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128})


class BadStream(ValueError):
    """The bytes are not the H.264 that our encoder makes; the caller knows the file."""


def nal_units(access_unit: bytes) -> Iterator[bytes]:
    """Yield the NAL units of a picture as MP4 stores it: each behind four bytes of length.

    Raises:
        BadStream: a length does not fit, or there is no unit.
    """
    at, end = 0, len(access_unit)
    while at < end or not end:
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(access_unit[at:start], "big")
        if start >= at or at > end:
            raise BadStream("a picture is cut or damaged")
        yield access_unit[start:at]


def is_idr(access_unit: bytes) -> bool:
    """Tell whether a picture starts a GOP that needs nothing from before.

    Raises:
        BadStream: the picture is damaged.
    """
    return any(unit[0] & 31 == _SLICE_IDR for unit in nal_units(access_unit))


class _Bits:
    """Reads the bits of a NAL unit whose emulation prevention bytes are gone."""

    def __init__(self, data: bytes) -> None:
        self._value, self.length, self.at = int.from_bytes(data, "big"), len(data) * 8, 0

    def u(self, count: int) -> int:
        """Read an unsigned number of ``count`` bits."""
        self.at += count
        if self.at > self.length:
            raise BadStream("a header is cut")
        return (self._value >> (self.length - self.at)) & ((1 << count) - 1)

    def ue(self) -> int:
        """Read an Exp-Golomb number; a signed one has the same length."""
        zeros = 0
        while not self.u(1):
            zeros += 1
        return (1 << zeros) - 1 + self.u(zeros)

    def between(self, start: int, stop: int) -> int:
        """Return the bits from ``start`` to ``stop`` as a number."""
        return (self._value >> (self.length - stop)) & ((1 << (stop - start)) - 1)


@dataclass(frozen=True, slots=True)
class Headers:
    """What slice headers are read with.

    Attributes:
        frame_num_bits: length of ``frame_num``.
        poc_lsb_bits: length of ``pic_order_cnt_lsb``; 0 when the order is not coded.
        bottom_order: ``bottom_field_pic_order_in_frame_present_flag``.
        cabac: ``entropy_coding_mode_flag``.
        deblocking: ``deblocking_filter_control_present_flag``.
    """

    frame_num_bits: int
    poc_lsb_bits: int
    bottom_order: bool
    cabac: bool
    deblocking: bool


def read_headers(avcc: bytes) -> Headers:
    """Read the one SPS and the one PPS of an ``avcC`` record (ISO/IEC 14496-15, 5.3.3).

    Raises:
        BadStream: no such record, or headers that x264 with our options does not write.
    """
    if len(avcc) < 9 or avcc[0] != 1 or avcc[4] & 3 != 3 or avcc[5] & 31 != 1:
        raise BadStream("its header is not one of ours")
    sps_end = 8 + int.from_bytes(avcc[6:8], "big")
    pps_start = sps_end + 3
    if avcc[sps_end : sps_end + 1] != b"\x01":
        raise BadStream("its header has not one picture parameter set")
    pps_end = pps_start + int.from_bytes(avcc[sps_end + 1 : pps_start], "big")
    frame_num_bits, poc_lsb_bits = _sequence(_Bits(_unescaped(avcc[8:sps_end])))
    picture = _picture(_Bits(_unescaped(avcc[pps_start:pps_end])))
    return Headers(frame_num_bits, poc_lsb_bits, *picture)


def _sequence(bits: _Bits) -> tuple[int, int]:
    """Return the lengths of ``frame_num`` and ``pic_order_cnt_lsb``."""
    bits.u(8)
    profile = bits.u(8)
    bits.u(16)
    bits.ue()  # seq_parameter_set_id
    if profile in _PROFILES_WITH_CHROMA_FORMAT:
        chroma_format, luma_depth, chroma_depth = bits.ue(), bits.ue(), bits.ue()
        bits.u(1)  # qpprime_y_zero_transform_bypass_flag
        if (chroma_format, luma_depth, chroma_depth) != (1, 0, 0) or bits.u(1):
            raise BadStream("it is not 8-bit 4:2:0 with flat scaling")
    frame_num_bits = bits.ue() + 4
    order_type = bits.ue()
    if order_type == 1:
        raise BadStream("its picture order is coded in a way that x264 does not use")
    poc_lsb_bits = bits.ue() + 4 if order_type == 0 else 0
    bits.ue()  # max_num_ref_frames
    bits.u(1)  # gaps_in_frame_num_value_allowed_flag
    bits.ue()  # pic_width_in_mbs_minus1
    bits.ue()  # pic_height_in_map_units_minus1
    if not bits.u(1):
        raise BadStream("it is interlaced")
    return frame_num_bits, poc_lsb_bits


def _picture(bits: _Bits) -> tuple[bool, bool, bool]:
    """Return whether bottom order is present, the entropy coding is CABAC, deblocking is set."""
    bits.u(8)
    bits.ue()  # pic_parameter_set_id
    bits.ue()  # seq_parameter_set_id
    cabac, bottom_order = bool(bits.u(1)), bool(bits.u(1))
    if bits.ue():
        raise BadStream("it has several slice groups")
    bits.ue()  # num_ref_idx_l0_default_active_minus1
    bits.ue()  # num_ref_idx_l1_default_active_minus1
    bits.u(3)  # weighted_pred_flag, weighted_bipred_idc
    for _ in ("pic_init_qp", "pic_init_qs", "chroma_qp_index_offset"):
        bits.ue()
    deblocking = bool(bits.u(1))
    bits.u(1)  # constrained_intra_pred_flag
    if bits.u(1):
        raise BadStream("it has redundant pictures")
    return bottom_order, cabac, deblocking


def idr_number(access_unit: bytes, headers: Headers) -> int:
    """Return ``idr_pic_id`` of an IDR picture.

    Raises:
        BadStream: the picture is damaged or none of our encoder's.
    """
    for unit in nal_units(access_unit):
        if unit[0] & 31 == _SLICE_IDR:
            # Enough for everything in front of the number, whatever the picture's size.
            bits = _Bits(_unescaped(unit[:64]))
            _skip_to_idr_number(bits, headers)
            return bits.ue()
    raise BadStream("it has no IDR picture where one is expected")


def with_idr_number(access_unit: bytes, headers: Headers, number: int) -> bytes:
    """Return an IDR picture with another ``idr_pic_id``; the pixels that it decodes to stay.

    Raises:
        BadStream: the picture is damaged or none of our encoder's.
    """
    units = []
    for unit in nal_units(access_unit):
        changed = _renumbered(unit, headers, number) if unit[0] & 31 == _SLICE_IDR else unit
        units.append(len(changed).to_bytes(_LENGTH_BYTES, "big") + changed)
    return b"".join(units)


def _skip_to_idr_number(bits: _Bits, headers: Headers) -> None:
    bits.u(8)
    bits.ue()  # first_mb_in_slice
    if bits.ue() not in _SLICE_TYPES_I:
        raise BadStream("its IDR picture is not intra")
    bits.ue()  # pic_parameter_set_id
    bits.u(headers.frame_num_bits)


def _renumbered(unit: bytes, headers: Headers, number: int) -> bytes:
    data = _unescaped(unit)
    bits = _Bits(data)
    _skip_to_idr_number(bits, headers)
    before = bits.at
    bits.ue()
    after = bits.at
    code = number + 1
    head, length = bits.between(0, before), before + 2 * code.bit_length() - 1
    head = (head << (length - before)) | code
    if headers.cabac:
        _skip_header_end(bits, headers)
        stop = bits.at
        payload = data[(stop + 7) // 8 :]  # after cabac_alignment_one_bit
    else:
        stop = _trailing_one(data)
        payload = b""
    head = (head << (stop - after)) | bits.between(after, stop)
    length += stop - after
    padding = -length % 8
    # CABAC data start at a whole byte after ones; CAVLC data end with a one and zeros.
    fill = (1 << padding) - 1 if headers.cabac else 0
    return _escaped(((head << padding) | fill).to_bytes((length + padding) // 8, "big") + payload)


def _skip_header_end(bits: _Bits, headers: Headers) -> None:
    """Go from behind ``idr_pic_id`` to the end of an IDR picture's slice header."""
    bits.u(headers.poc_lsb_bits)
    if headers.poc_lsb_bits and headers.bottom_order:
        bits.ue()
    bits.u(2)  # no_output_of_prior_pics_flag, long_term_reference_flag
    bits.ue()  # slice_qp_delta
    if headers.deblocking and bits.ue() != 1:
        bits.ue()  # slice_alpha_c0_offset_div2
        bits.ue()  # slice_beta_offset_div2


def _trailing_one(data: bytes) -> int:
    """Return the position behind the last set bit, ``rbsp_stop_one_bit``."""
    stripped = data.rstrip(b"\0")
    if not stripped:
        raise BadStream("a picture is empty")
    return len(stripped) * 8 - ((stripped[-1] & -stripped[-1]).bit_length() - 1)


def _unescaped(unit: bytes) -> bytes:
    """Remove emulation prevention bytes (7.4.1)."""
    return unit.replace(b"\0\0\3", b"\0\0")


def _escaped(data: bytes) -> bytes:
    """Insert emulation prevention bytes (7.4.1)."""
    out, start, at = bytearray(), 0, data.find(b"\0\0")
    while at >= 0 and at + 2 < len(data):
        if data[at + 2] <= 3:
            out += data[start : at + 2] + b"\3"
            start = at + 2
            at = data.find(b"\0\0", start)
        else:
            at = data.find(b"\0\0", at + 1)
    out += data[start:]
    # A unit must not end with a zero byte either.
    return bytes(out) + (b"\3" if data.endswith(b"\0") else b"")
