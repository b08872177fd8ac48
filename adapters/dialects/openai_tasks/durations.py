"""How long a recording lasts, from its bytes: as its header says for WAV, FLAC, MP4 and Ogg, close for MP3 of a
constant rate, else a bound by its size.

Used to reserve credit before a transcription and to count speech that came without a usage; where the vendor says how
long a recording was, its word is charged.
"""

from __future__ import annotations

import struct
from typing import Final

LEAST_BYTES_PER_S: Final = 2_000
"""16 kbit/s: hardly any recording of speech is smaller, so that a duration by size is a bound from above."""
PCM_BYTES_PER_S: Final = 48_000
"""OpenAI's speech as raw samples: 24 kHz, 16 bits, one channel."""
SECONDS_MAX: Final = 24 * 3_600

_MP3_KBITS: Final = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
"""Bit rates of layer III by version: 3 is MPEG 1, all others are MPEG 2 (ISO/IEC 11172-3, 13818-3)."""
_SYNC_SEARCHED: Final = 64 * 1024


def seconds(recording: bytes, content_type: str = "") -> int:
    """Whole seconds, rounded up; at least 1 for anything at all."""
    told = _wav(recording) or _flac(recording) or _mp4(recording) or _ogg(recording)
    if told is None:
        rate = _mp3_rate(recording)
        if rate is None:
            rate = PCM_BYTES_PER_S if "pcm" in content_type.lower() else LEAST_BYTES_PER_S
        told = -(-len(recording) // rate)
    return min(max(1, told), SECONDS_MAX)


def _flac(recording: bytes) -> int | None:
    """From the stream's first block (RFC 9639, section 8.2)."""
    if recording[:4] != b"fLaC" or len(recording) < 26:
        return None
    packed = int.from_bytes(recording[18:26])
    rate, samples = packed >> 44, packed & (1 << 36) - 1
    return -(-samples // rate) if rate and samples else None


def _mp4(recording: bytes) -> int | None:
    """From the movie header, of either version (ISO/IEC 14496-12, section 8.2.2)."""
    if recording[4:8] != b"ftyp":
        return None
    at = recording.find(b"mvhd")
    if at < 0 or at + 36 > len(recording):
        return None
    scale, long = (
        struct.unpack_from(">IQ", recording, at + 24)
        if recording[at + 4] == 1
        else struct.unpack_from(">II", recording, at + 16)
    )
    return -(-long // scale) if scale and long else None


def _ogg(recording: bytes) -> int | None:
    """From the position of the last page: Opus always counts at 48 kHz (RFC 7845), Vorbis at its own rate."""
    if recording[:4] != b"OggS":
        return None
    last = recording.rfind(b"OggS")
    if last + 14 > len(recording):
        return None
    (samples,) = struct.unpack_from("<q", recording, last + 6)
    vorbis = recording.find(b"\x01vorbis", 0, 4096)
    rate = 48_000
    if 0 <= vorbis <= len(recording) - 16:
        (rate,) = struct.unpack_from("<I", recording, vorbis + 12)
    return -(-samples // rate) if rate and samples > 0 else None


def _wav(recording: bytes) -> int | None:
    """By the bytes that are there, not by the length that its header claims, which streamed files leave open."""
    if recording[:4] != b"RIFF" or recording[8:12] != b"WAVE":
        return None
    at, data = recording.find(b"fmt ", 12, 4096), recording.find(b"data", 12, 64 * 1024)
    if at < 0 or data < 0 or at + 20 > len(recording):
        return None
    (rate,) = struct.unpack_from("<I", recording, at + 16)
    return -(-(len(recording) - data - 8) // rate) if rate else None


def _mp3_rate(recording: bytes) -> int | None:
    """Bytes per second of the first frame."""
    start = 0
    if recording[:3] == b"ID3" and len(recording) > 10:
        size = 0
        for byte in recording[6:10]:
            size = size << 7 | byte & 0x7F
        start = 10 + size
    at = recording.find(b"\xff", start, start + _SYNC_SEARCHED)
    while 0 <= at < len(recording) - 2:
        second, third = recording[at + 1], recording[at + 2]
        version, layer = second >> 3 & 3, second >> 1 & 3
        if second & 0xE0 == 0xE0 and layer == 1 and version != 1:
            kbits = _MP3_KBITS[3 if version == 3 else 2][third >> 4]
            if kbits:
                return kbits * 125
        at = recording.find(b"\xff", at + 1, start + _SYNC_SEARCHED)
    return None
