"""The format of a file by its first bytes; what a file is that is no audio."""

import re

from s2pecnet.audio.containers.content import Content

_MAGIC = [
    (re.compile(pattern, re.DOTALL), name)
    for pattern, name in (
        (rb"(RIFF|RIFX|RF64|BW64)....WAVE", "wav"),
        (rb"FORM....AIF[FC]", "aiff"),
        (rb"FORM....(8SVX|16SV)", "svx"),
        (rb"NIST_1A", "nist"),
        (rb"Creative Voice File", "voc"),
        (rb"fLaC", "flac"),
        (rb"OggS", "ogg"),
        (rb"caff\0", "caf"),
        (rb"\.snd|dns\.", "au"),
        (rb"riff\x2e\x91\xcf\x11", "w64"),
        (rb"Extended Instrument: |ALawSoundFile|PVF1| paf|fap |2BIT|\xf0\x7e", "other"),
        (rb"\x64\xa3[\x01-\x04]\0|\0[\x01-\x04]\xa3\x64", "other"),
        (rb"#!AMR(-WB)?\n", "amr"),
        (rb"....(ftyp|moov|mdat|wide|free|skip)", "mp4"),
        (rb"\x1a\x45\xdf\xa3", "matroska"),
        (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
        (rb"wvpk|MAC |TTA1|TTA2|tBaK|MPCK|MP\+|\.ra\xfd|\.RMF|FLV\x01|DSD |FRM8|RIFF....AVI |\0\0\x01\xba", "av"),
        (rb"\x0b\x77", "ac3"),
        (rb"\x7f\xfe\x80\x01", "av"),
        (rb"G.{187}G.{187}G", "ts"),
        (rb"\xff[\xf0\xf1\xf8\xf9]", "aac"),
        (rb"\xff[\xe2-\xff]", "mpeg"),
    )
]
# Formats that libsndfile does not know.
SECOND_ONLY = frozenset(("amr", "mp4", "matroska", "asf", "av", "aac", "ac3", "ts"))
_NO_AUDIO = (
    (rb"version https://git-lfs", "a Git LFS pointer, not the audio itself; fetch that with git lfs pull"),
    (rb"\s*<(!doctype html|html|head)", "an HTML page, not audio: a download that went wrong?"),
    (rb"\s*(<\?xml|<)", "XML, not audio"),
    (rb'\s*[\[{]\s*["\[{\]}\d]', "JSON, not audio"),
    (rb"#!SILK|\x02#!SILK", "a SILK voice message, which is not read; convert it first"),
    (rb"\x1f\x8b|PK\x03\x04|Rar!|7z\xbc\xaf|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd", "an archive or compressed; unpack it"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|BM.{8}", "a picture, not audio"),
    (rb"%PDF", "a PDF, not audio"),
    (rb"\xff\xfe|\xfe\xff", "text in UTF-16, not audio"),
    (rb"\x93NUMPY", "a NumPy array, which names no sample rate; write it as WAV or FLAC"),
    (rb"\x89HDF|\x80[\x02-\x05]", "stored data, not audio"),
)


def sniff(content: Content, start: int = 0) -> tuple[str, int]:
    """The format of a file by its first bytes ("" if unknown), and where it begins, behind ID3 tags."""
    while (tag := content.at(start, 10))[:3] == b"ID3" and len(tag) == 10:
        start += 10 + synchsafe(tag[6:10]) + 10 * (tag[5] >> 4 & 1)
        start += len(padding) - len(padding.lstrip(b"\0")) if (padding := content.at(start, 4096)) else 0
    head = content.at(start, 600)
    for pattern, name in _MAGIC:
        if pattern.match(head):
            known = {"aac": adts_frame, "mpeg": mpeg_frame, "ac3": ac3_frame}.get(name)
            size = known(content, start) if known else 1
            if size and (not known or start + size == content.size or known(content, start + size)):
                return name, start
    # MP3 behind what no format begins with, such as zeros.
    for found in re.finditer(rb"\xff[\xe2-\xff]", content.at(start, 1 << 16)):
        begin = position = start + found.start()
        for _ in range(3):
            size = mpeg_frame(content, position)
            position += size
            if not size or position >= content.size:
                break
        else:
            return "mpeg", begin
    return "", start


def describe(content: Content) -> str:
    """What a file is that is no audio, in words; "" where it cannot be told."""
    head = content.at(0, 512)
    for pattern, words in _NO_AUDIO:
        if re.match(pattern, head, re.IGNORECASE | re.DOTALL):
            return words
    text = head.decode("utf-8", "ignore")
    if len(text.encode()) + 3 >= len(head) and all(letter.isprintable() or letter.isspace() for letter in text):
        return f"text, not audio: {text.strip()[:30]!r}"
    return ""


_BITRATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44100, 48000, 32000)


def mpeg_header(head: bytes) -> tuple[int, int] | None:
    """The length of an MPEG audio frame and its sample rate; None where there is none, or its bit rate is free."""
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    hertz = _RATES[rate] >> (0 if version == 3 else 1 if version == 2 else 2)
    bits = 1000 * _BITRATES[1 if version == 3 else 2, layer][bitrate - 1]
    padding = head[2] >> 1 & 1
    if layer == 1:
        return (12 * bits // hertz + padding) * 4, hertz
    return (72 if layer == 3 and version != 3 else 144) * bits // hertz + padding, hertz


def mpeg_frame(content: Content, position: int) -> int:
    """The length of an MPEG audio frame; 0 where there is none, or its bit rate is free."""
    header = mpeg_header(content.at(position, 4))
    return header[0] if header else 0


def synchsafe(data: bytes) -> int:
    """A number of ID3 tags: 4 bytes of 7 bits each."""
    return data[0] << 21 | data[1] << 14 | data[2] << 7 | data[3]


def adts_frame(content: Content, position: int) -> int:
    """The length of a frame of AAC; 0 where there is none."""
    head = content.at(position, 7)
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return 0
    return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5


_AC3_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)


def ac3_frame(content: Content, position: int) -> int:
    """The length of a frame of AC-3 or E-AC-3; 0 where there is none."""
    head = content.at(position, 6)
    if len(head) < 6 or head[:2] != b"\x0b\x77":
        return 0
    if head[5] >> 3 > 10:
        return 2 * (((head[2] & 7) << 8 | head[3]) + 1)
    rate, code = head[4] >> 6, head[4] & 63
    if rate == 3 or code >> 1 >= len(_AC3_KBITS):
        return 0
    kbits = _AC3_KBITS[code >> 1]
    return 2 * (2 * kbits, kbits * 320 // 147 + (code & 1), 3 * kbits)[rate]
