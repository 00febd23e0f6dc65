"""The size that a JPEG or JPEG 2000 image states, read before a decoder makes room for it."""

# Markers of JPEG frame headers (ITU T.81, table B.1) and of JPEG-LS (ITU T.87, C.1.1).
_FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
# Start of a JPEG 2000 codestream and its size segment (ITU T.800, A.5.1).
_SIZE_2000 = b"\xff\x4f\xff\x51"


def stated_size(frame: bytes) -> tuple[int, int]:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 image is about to be decoded to.

    Raises:
        ValueError: If it does not say.
    """
    start = frame.find(_SIZE_2000)
    if start >= 0:
        right, bottom, left, top = (int.from_bytes(frame[at : at + 4], "big") for at in range(start + 8, start + 24, 4))
        return bottom - top, right - left
    at = 2
    while frame.startswith(b"\xff\xd8") and at + 9 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker in _FRAME_HEADERS:
            return int.from_bytes(frame[at + 5 : at + 7], "big"), int.from_bytes(frame[at + 7 : at + 9], "big")
        if marker == _START_OF_SCAN:
            break
        # 0xFF may be repeated before a marker; other segments say how long they are.
        at += 1 if marker == 0xFF else 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    raise ValueError("frame must start with a JPEG, JPEG-LS or JPEG 2000 header that states its size")
