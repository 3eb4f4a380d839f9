"""An author's accent, bent to a legible lightness on light and on dark paper, as the pages' own stylesheet does it."""

from math import atan2, cbrt, cos, hypot, sin

Triple = tuple[float, float, float]
MOST_CHROMA = 0.16
ON_LIGHT = (0.20, 0.45)
ON_DARK = (0.80, 0.90)


def ink(accent: str, bounds: tuple[float, float]) -> str:
    """Return "#rrggbb" with its OKLCH lightness held within bounds, ON_LIGHT or ON_DARK."""
    lightness, a, b = _to_oklab(accent)
    chroma, hue = min(hypot(a, b), MOST_CHROMA), atan2(b, a)
    bent = min(max(lightness, bounds[0]), bounds[1])
    return _from_oklab(bent, chroma * cos(hue), chroma * sin(hue))


# Both matrices: Björn Ottosson, "A perceptual color space for image processing", 2020.
def _to_oklab(colour: str) -> Triple:
    r, g, b = (_linear(int(colour[at : at + 2], 16) / 255) for at in (1, 3, 5))
    long = cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b)
    medium = cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b)
    short = cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b)
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
    )


def _from_oklab(lightness: float, a: float, b: float) -> str:
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    channels = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    return "#" + "".join(f"{round(_encoded(min(max(channel, 0), 1)) * 255):02x}" for channel in channels)


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)


def _encoded(value: float) -> float:
    return value * 12.92 if value <= 0.0031308 else float(1.055 * value ** (1 / 2.4) - 0.055)
