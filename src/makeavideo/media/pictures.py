"""Pictures of any turn, depth, transparency and colour space -> 8-bit RGB, fitted into a shape."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any, BinaryIO, Literal, cast

import numpy as np
from PIL import Image, ImageCms, ImageColor, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError

from ..errors import UserError, in_a_line
from ..nesting import SHORT
from .code_points import HDR, CodePoints, code_points, mapped
from .patience import MAX_SECONDS, TooSlow, Watched, within

__all__ = [
    "MAX_PIXELS",
    "Fit",
    "TooManyPixels",
    "Unreadable",
    "check_shape",
    "in_memory",
    "load_picture",
    "open_image",
    "parse_background",
    "sides",
    "to_rgb",
    "to_shape",
    "unreadable",
]

MAX_PIXELS = 64_000_000  # of one picture or frame to be read: larger ones are decompression bombs or mistakes

# swscale's bicubic | full chroma | accurate rounding: the default truncates and makes everything half a level darker.
SCALER = 0x4 | 0x2000 | 0x40000
SCALER_THREADS = 1
"""A process that was forked waits for ever for more to end: it has the scaler, and not its threads."""

_PHOTOMETRIC, _YCBCR = 262, 6  # of tiff
EXIF_IFD, USER_COMMENT = 0x8769, 0x9286

COLOURED = ("RGB", "RGBA", "CMYK", "L", "LA", "P", "PA")
"""Pillow's modes of eight bits, whose colours a profile can change."""
USUAL_GAMMA = 1 / 2.2

Fit = Literal["crop", "pad", "keep"]
"""How a picture gets a video's shape: its centre, or the whole of it on a background. Keep: the video gets its shape,
which whoever makes the video settles (`settings.keep_shape`), so that nothing here is asked for it."""


class Unreadable(Exception):
    """This file cannot be used; the message is the short reason. Never leaves the package."""


def unreadable(error: Exception) -> Unreadable:
    """The decoders raise nearly any exception on damaged files: all become one short reason."""
    if isinstance(error, Unreadable):
        return error
    if isinstance(error, UnidentifiedImageError):
        return Unreadable("not a picture")
    if isinstance(error, TooManyPixels | TooSlow):
        return Unreadable(str(error))
    text = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
    return Unreadable("truncated" if "truncated" in text else f"damaged: {text[:80]}")


def parse_background(name: str) -> tuple[int, int, int]:
    """A colour as Pillow understands it ("#ffffff", "white") -> red, green, blue, 0..255; UserError if it is none."""
    try:
        return ImageColor.getrgb(name)[:3]
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"the background {name!r} is not a colour: write it like #ffffff or white") from error


class TooManyPixels(Exception):
    """A picture of more than MAX_PIXELS, or an animation of more than its limit; the message says so."""

    def __init__(self, limit: int = MAX_PIXELS) -> None:
        super().__init__(f"more than {limit // 1_000_000} megapixels")


def open_image(file: BinaryIO) -> Image.Image:
    """Pillow's Image.open, which decodes nothing yet; TooManyPixels from what the header says.

    Reading can be ended as `patience` says.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of bombs, for which our own limit is stricter, and of what is damaged
        try:
            image = Image.open(cast(BinaryIO, Watched(file)))
        except Image.DecompressionBombError as error:
            raise TooManyPixels from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise TooManyPixels
    image.info["code_points"] = code_points(file, image.format)
    if image.format == "TIFF":
        _by_libtiff(image)
    return image


def _by_libtiff(image: Image.Image) -> None:
    """Have a tiff of luma and chroma that is not compressed read as the compressed ones are: Pillow itself cannot."""
    tiff = cast(TiffImagePlugin.TiffImageFile, image)
    if tiff.tag_v2.get(_PHOTOMETRIC) == _YCBCR and tiff.tile and tiff.tile[0].codec_name == "raw":
        tiff.use_load_libtiff = True
        tiff.tile = [
            ImageFile._Tile("libtiff", (0, 0, *tiff._tile_size), 0, ("RGBX", "raw", False, tiff.tag_v2.offset))
        ]


def to_rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Any Pillow mode as 8-bit RGB: alpha composed on the background, deeper grey scaled down."""
    if image.mode.startswith("I") or image.mode == "F":
        grey = np.nan_to_num(np.asarray(image).astype(np.float32 if image.mode == "F" else np.float64))
        # The depth of a file that arrives as I or F is not known: the smallest usual one that holds its values.
        usual = [65535.0] if image.mode.startswith("I;16") else [255.0, 65535.0, 2.0**31 - 1]
        usual = [1.0, *usual] if image.mode == "F" else usual
        peak = next((value for value in usual if grey.max() <= value), usual[-1])
        levels = Image.fromarray((grey * (255.0 / peak)).round().clip(0, 255).astype(np.uint8)).convert("RGB")
        clear = image.info.get("transparency")  # the one level that is transparent
        if isinstance(clear, int):
            levels.paste(background, mask=Image.fromarray(np.uint8(255) * (grey == clear)))
        return levels
    if image.has_transparency_data:
        image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        canvas = Image.new("RGB", image.size, background)
        canvas.paste(image, mask=image.getchannel("A"))
        return canvas
    return image.convert("RGB")


def load_picture(file: BinaryIO, background: tuple[int, int, int], detail: int | None = None) -> Image.Image:
    """The picture, or an animation's first frame, upright, as 8-bit sRGB, alpha composed on the background.

    detail: pixels a side that are enough; a JPEG may then be decoded smaller, never below it.
    Unreadable for anything that is not a whole picture of at most 64 megapixels.
    """
    try:
        with within(MAX_SECONDS), open_image(file) as image:
            if image.format == "EPS":  # Pillow would start Ghostscript, which runs the file's program
                raise Unreadable("not a picture")
            if detail is not None and image.format == "JPEG":
                image.draft("RGB", (detail, detail))
            image.load()
            return as_seen(image, background)
    except Exception as error:
        raise unreadable(error) from error


def as_seen(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """A picture upright, as 8-bit sRGB, alpha composed on the background."""
    return to_rgb(to_srgb(ImageOps.exif_transpose(image)), background)


def in_memory(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """`as_seen` of a picture that a program has. Raises UserError where it is closed, cut off, or has no pixels."""
    if not image.width * image.height:
        raise UserError(f"a picture in memory has {image.width}x{image.height} pixels: give one of at least 1x1")
    try:
        return as_seen(image, background)
    except (ValueError, OSError, SyntaxError, Unreadable) as error:
        raise UserError(f"a picture in memory cannot be read ({in_a_line(error)}): open it anew") from error


def to_srgb(image: Image.Image) -> Image.Image:
    """A picture with a profile or a gamma of its own (telephones: Display P3; print: CMYK) in the usual colours.

    High dynamic range and wide colours without a profile are mapped as those of videos are.
    """
    points: CodePoints | None = image.info.get("code_points")
    if points is not None and not points.usual and (points.transfer in HDR or "icc_profile" not in image.info):
        return _mapped(image, points)
    if (profile := image.info.get("icc_profile")) is None:
        return with_usual_gamma(image)
    if image.mode not in COLOURED:
        return image
    with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError):  # a damaged profile: as if there were none
        source: Any = ImageCms.ImageCmsProfile(io.BytesIO(profile))  # the stubs of its parts are wrong
        if image.mode == "CMYK" or not ImageCms.getProfileDescription(source).strip().lower().startswith("srgb"):
            colours, alpha = colours_of(image, "L" if source.profile.xcolor_space == "GRAY" else "RGB")
            converted = ImageCms.profileToProfile(colours, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            assert converted is not None
            if alpha is not None:
                converted.putalpha(alpha)
            return converted
    return image


def _mapped(image: Image.Image, points: CodePoints) -> Image.Image:
    if image.mode not in COLOURED:  # grey of sixteen bits
        image = to_rgb(image, (0, 0, 0))
    colours, alpha = colours_of(image, "RGB")
    try:
        shown = mapped(colours, points)
    except ImportError:
        raise Unreadable("high dynamic range or wide colours, which need PyAV: pip install av") from None
    if alpha is not None:
        shown.putalpha(alpha)
    return shown


def with_usual_gamma(image: Image.Image) -> Image.Image:
    """A png that says how its levels become light, and not by a profile; what is nearly the usual way stays."""
    gamma = image.info.get("gamma", USUAL_GAMMA)
    exponent = USUAL_GAMMA / gamma if gamma > 0 else 1.0
    if "srgb" in image.info or abs(exponent - 1) < 0.05 or not 0.05 < exponent < 20 or image.mode not in COLOURED:
        return image
    levels = [round(255 * (level / 255) ** exponent) for level in range(256)]
    colours, alpha = colours_of(image, "RGB")
    converted = colours.point(levels * 3)
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def colours_of(image: Image.Image, mode: Literal["L", "RGB"]) -> tuple[Image.Image, Image.Image | None]:
    """A picture of a mode of `COLOURED` without transparency, CMYK as it is, and its transparency."""
    if image.mode == "CMYK":
        return image, None
    if not image.has_transparency_data:
        return image.convert(mode), None
    whole = image.convert("RGBA")
    return whole.convert("RGB").convert(mode), whole.getchannel("A")


def to_shape(
    image: Image.Image,
    shape: int | tuple[int, int],
    fit: Fit = "crop",
    background: tuple[int, int, int] = (255, 255, 255),
) -> np.ndarray:
    """RGB image -> uint8 (height, width, 3) by antialiased Lanczos; `fit` as in `read_picture`.

    shape: (height, width), or one number for a square.
    """
    height, width = sides(shape)
    if fit == "pad":
        scale = min(width / image.width, height / image.height)
        inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        if inner != image.size:
            image = image.resize(inner, Image.Resampling.LANCZOS, reducing_gap=3.0)
        canvas = Image.new("RGB", (width, height), background)
        canvas.paste(image, ((width - inner[0]) // 2, (height - inner[1]) // 2))
        return np.array(canvas)
    wider = image.width * height > image.height * width
    across = image.height * width / height if wider else image.width  # the part that is seen
    down = image.height if wider else image.width * height / width
    left, top = (image.width - across) / 2, (image.height - down) / 2
    if (across, down) != (width, height):
        box = (left, top, left + across, top + down)
        image = image.resize((width, height), Image.Resampling.LANCZOS, box, reducing_gap=3.0)
    elif image.size != (width, height):
        image = image.crop((int(left), int(top), int(left) + width, int(top) + height))
    return np.array(image)


def sides(shape: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width); of one number, a square's."""
    return (shape, shape) if isinstance(shape, int) else (int(shape[0]), int(shape[1]))


def check_shape(shape: int | tuple[int, int] | None, fit: str) -> None:
    if shape is not None and min(sides(shape)) < 1:
        said = shape if isinstance(shape, int) else f"{shape[1]}x{shape[0]}"
        raise UserError(f"the size is {said} pixels: it must be at least 1")
    if not (isinstance(fit, str) and fit in ("crop", "pad")):
        raise UserError(f"the fit is {SHORT.repr(fit)}: it must be crop or pad, or keep where a video gets its shape")
