"""Pictures that authors upload: decoded and drawn anew, so that nothing but pixels remains."""

import secrets
from io import BytesIO

from django.core.exceptions import ValidationError
from django.core.files.base import ContentFile, File
from django.utils.translation import gettext_lazy as _
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "GIF", "WEBP")
PIXELS = 50_000_000
EDGE = 1600


def redraw(upload: "File[bytes]") -> "ContentFile[bytes]":
    """Return a picture of at most 1600 pixels a side, without its metadata, under a name of ours."""
    try:
        upload.seek(0)
        with Image.open(upload, formats=FORMATS) as picture:
            if picture.width * picture.height > PIXELS:
                raise ValidationError(_("This picture is too large. Give one of at most 50 million pixels."))
            drawn = ImageOps.exif_transpose(picture).convert("RGBA")
            drawn.thumbnail((EDGE, EDGE))
            out = BytesIO()
            drawn.save(out, "WEBP", quality=85)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise ValidationError(_("This file is no picture that can be read. Give a PNG, JPEG, GIF or WebP.")) from None
    return ContentFile(out.getvalue(), name=f"{secrets.token_hex(8)}.webp")
