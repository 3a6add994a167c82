"""One picture file as pixels: upright and whole, or refused where they would be read wrong."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from fedlaw_flwr.core.errors import InputError

_ORIENTATION = 0x0112
# What to do for each value of EXIF's orientation, 1 being upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Of 8 bits a channel or fewer, and converted without loss of their meaning.
_MODES = ("1", "L", "P", "RGB", "RGBA", "RGBX", "LA", "PA", "YCbCr", "HSV")
_BITS_PER_SAMPLE = 258
_TOO_DEEP = "its pixels have more than 8 bits: export it with 8, by one rule at every silo"
# Nothing else: some of Pillow's readers start other programs.
_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")
_CUT_SHORT = ("truncated", "not enough", "eof", "broken data stream")


class _Refused(ValueError):
    """A picture that is not taken; the text is a sentence without the file's name."""


@dataclass(frozen=True)
class Picture:
    """The pixels, and what of the file was not understood or not kept: parts of sentences."""

    image: Image.Image
    noticed: tuple[str, ...]


def read(path: Path, mode: str) -> Picture:
    """The picture in this mode, turned upright by its EXIF.

    Raises:
        ValueError: One sentence, for pixels of more than 8 bits a channel (Pillow would cut off bits of some and clip
            others), for several pictures in one file, for colours for print (CMYK, LAB), and for what is cut short or
            cannot be decoded.
    """
    try:
        if os.path.getsize(path) == 0:
            raise _Refused("it is empty; copy it again")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow warns of is looked at here
            with Image.open(path, formats=_FORMATS) as image:
                _refuse_misread(image)
                image.load()
                turn, noticed = _orientation(image)
                if _shines_through(image):
                    noticed = (*noticed, "have transparent pixels, of which the colours are taken as they are")
                upright = image.transpose(_TURNS[turn]) if turn in _TURNS else image
                return Picture(upright.convert(mode), noticed)
    except Exception as error:  # Pillow's readers raise what they like for a broken file
        raise InputError(f"{path}: {_why(error)}") from None


def _why(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"it cannot be read: it is no picture of a kind known here ({type(error).__name__})"
    if isinstance(error, _Refused):
        return str(error)
    if isinstance(error, Image.DecompressionBombError):
        return "it has too many pixels; export it smaller, by one rule at every silo"
    if any(mark in str(error).lower() for mark in _CUT_SHORT):
        return "it cannot be read: it is cut short; copy it again"
    if isinstance(error, OSError) and error.strerror:
        return f"it cannot be read: {error.strerror}"
    return f"it cannot be read: it is damaged ({type(error).__name__})"


def _refuse_misread(image: Image.Image) -> None:
    """Raises ValueError for a picture that could be decoded, but not as it is meant."""
    for tile in getattr(image, "tile", ()):
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        raw = str(arguments[0]) if arguments else ""
        deepest = arguments[1] if tile[0].startswith("ppm") and len(arguments) > 1 else 0
        if any(mark in raw for mark in (";16", ";12", ";32", ";64")) or (isinstance(deepest, int) and deepest > 255):
            raise _Refused(_TOO_DEEP)
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, 8)
    if image.mode[0] in "IF" or max(bits if isinstance(bits, tuple) else (bits,)) > 8:
        raise _Refused(_TOO_DEEP)
    if image.mode not in _MODES:
        raise _Refused(f"its colours are {image.mode}: export it in RGB or grey")
    # A telephone's JPEG may hold a preview behind the picture; in other files each is as good as the first.
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise _Refused(f"it holds {frames} pictures, and one is expected: export each as a file of its own")


def _orientation(image: Image.Image) -> tuple[int, tuple[str, ...]]:
    """EXIF's orientation, 1 where there is none or it cannot be read; and what is to be said of that."""
    broken = ("have EXIF that cannot be read, so that they may lie on a side",)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            found = image.getexif().get(_ORIENTATION)
        except Exception:  # a broken tag raises anything from KeyError to struct.error
            return 1, broken
    if found is None:
        return 1, broken if warned else ()
    return (int(found), ()) if found in range(1, 9) else (1, broken)


def _shines_through(image: Image.Image) -> bool:
    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return False
    least = image.convert("RGBA").getchannel("A").getextrema()[0]
    return least != 255
