import pytest

from voicemesh.pictures import MEDIA_TYPES, media_type_of, size_of

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (640).to_bytes(4) + (480).to_bytes(4) + b"\x08\x02\0\0\0"
GIF = b"GIF89a" + (320).to_bytes(2, "little") + (200).to_bytes(2, "little") + b"\xf7\0\0"
# An APP0 segment of 16 bytes, a fill byte, then SOF2 with precision, height, width.
JPEG = (
    b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xff\xc2\0\x11\x08"
    + (768).to_bytes(2)
    + (1024).to_bytes(2)
    + b"\3"
)
LOSSY = (
    b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\x30\x01\0\x9d\x01\x2a"
    + (300 | 1 << 14).to_bytes(2, "little")
    + (150).to_bytes(2, "little")
)
LOSSLESS = b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + (399 | 299 << 14).to_bytes(4, "little")
EXTENDED = (
    b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\x10\0\0\0" + (1919).to_bytes(3, "little") + (1079).to_bytes(3, "little")
)


@pytest.mark.parametrize(
    ("data", "media_type", "size"),
    [
        (PNG, "image/png", (640, 480)),
        (GIF, "image/gif", (320, 200)),
        (JPEG, "image/jpeg", (1024, 768)),
        (LOSSY, "image/webp", (300, 150)),
        (LOSSLESS, "image/webp", (400, 300)),
        (EXTENDED, "image/webp", (1920, 1080)),
    ],
)
def test_a_picture_is_known_by_its_first_bytes(data: bytes, media_type: str, size: tuple[int, int]) -> None:
    assert media_type_of(data) == media_type
    assert media_type in MEDIA_TYPES
    assert size_of(data + b"\0" * 50) == size
    # Cut anywhere, it is another answer at worst, never a wrong size or a failure.
    for end in range(len(data)):
        assert size_of(data[:end]) in (None, size)


def test_what_is_no_picture_has_no_type() -> None:
    for data in (b"", b"<svg/>", b"%PDF-1.7", b"RIFF\0\0\0\0WAVEfmt ", b"\xff\xd8"):
        assert media_type_of(data) == ""
        assert size_of(data) is None


def test_a_jpeg_without_a_size_ends_the_search() -> None:
    assert size_of(b"\xff\xd8\xff\xe0\0\0\0\0\0\0") is None
    assert size_of(b"\xff\xd8\xff\xd9") is None
    assert size_of(PNG.replace((640).to_bytes(4), bytes(4))) is None
