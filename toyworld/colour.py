"""Colours as people see them: sRGB, CIELAB (D65) and the distance CIEDE2000."""

import numpy as np

_WHITE = np.array([0.95047, 1.0, 1.08883])  # D65, XYZ
_XYZ_OF_RGB = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def lab_of_rgb(rgb: np.ndarray) -> np.ndarray:
    """CIELAB [..., 3] of sRGB colours [..., 3] from 0 to 1."""
    rgb = np.asarray(rgb, float)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _XYZ_OF_RGB.T / _WHITE
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def rgb_of_lch(lightness: float, chroma: float, hue: float) -> np.ndarray:
    """The sRGB colour [3], 0 to 1, of a CIELAB lightness, chroma and hue (degrees); cut off where sRGB ends."""
    y = (lightness + 16) / 116
    f = np.array([y + chroma * np.cos(np.radians(hue)) / 500, y, y - chroma * np.sin(np.radians(hue)) / 200])
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _WHITE
    linear = np.clip(np.linalg.solve(_XYZ_OF_RGB, xyz), 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def ciede2000(lab1: np.ndarray, lab2: np.ndarray) -> np.ndarray:
    """The CIEDE2000 distance of CIELAB colours [..., 3] (Sharma, Wu and Dalal 2005); 1 is just noticeable."""
    (l1, a1, b1), (l2, a2, b2) = (np.moveaxis(np.asarray(lab, float), -1, 0) for lab in (lab1, lab2))
    grey = 1 + 0.5 * (1 - _rolled((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2))
    c1, c2 = np.hypot(grey * a1, b1), np.hypot(grey * a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, grey * a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = np.where(c1 * c2 == 0, 0, (h2 - h1 + 180) % 360 - 180)
    turn = np.where((turn == -180) & (h2 > h1), 180, turn)
    hue = np.where(c1 * c2 == 0, h1 + h2, _mean_hue(h1, h2))
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2

    weight = 1 - 0.17 * _cos(hue - 30) + 0.24 * _cos(2 * hue) + 0.32 * _cos(3 * hue + 6) - 0.2 * _cos(4 * hue - 63)
    dark = (lightness - 50) ** 2
    dl = (l2 - l1) / (1 + 0.015 * dark / np.sqrt(20 + dark))
    dc = (c2 - c1) / (1 + 0.045 * chroma)
    dh = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * chroma * weight)
    twist = -2 * _rolled(chroma) * np.sin(np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2))))
    return np.sqrt(dl**2 + dc**2 + dh**2 + twist * dc * dh)


def _mean_hue(h1: np.ndarray, h2: np.ndarray) -> np.ndarray:
    """The hue half way between two, degrees, on the shorter arc."""
    far = np.abs(h1 - h2) > 180
    return (h1 + h2 + far * np.where(h1 + h2 < 360, 360, -360)) / 2


def _rolled(chroma: np.ndarray) -> np.ndarray:
    return np.sqrt(chroma**7 / (chroma**7 + 25.0**7))


def _cos(degrees: np.ndarray) -> np.ndarray:
    return np.cos(np.radians(degrees))
