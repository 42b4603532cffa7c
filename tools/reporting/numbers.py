"""Writes numbers for readers: as many digits as they carry, a true minus sign, an explicit plus for
differences."""
import html
import math

MINUS = "\u2212"
MISSING = "\u2013"


def plain(value, digits=3):
    """`value` with `digits` significant digits; powers of ten below 0.0001 and from a million on."""
    value = float(value)
    if not math.isfinite(value):
        return MISSING if math.isnan(value) else ("\u221e" if value > 0 else MINUS + "\u221e")
    if value == 0:
        return "0"
    exponent = int(f"{value:.{digits - 1}e}".split("e")[1])
    if exponent < -4 or exponent >= 6:
        mantissa, power = f"{value:.{max(digits - 2, 0)}e}".split("e")
        text = f"{mantissa}e{int(power)}"
    else:
        text = f"{value:.{max(digits - 1 - exponent, 0)}f}"
    return text.replace("-", MINUS)


def signed(value, digits=3):
    """As plain, with a plus sign before positive numbers: for differences."""
    text = plain(value, digits)
    return "+" + text if float(value) > 0 else text


def given(value):
    """A number that a person chose, as 0.005: no more digits than it has."""
    return f"{float(value):g}".replace("-", MINUS)


def percent(value, digits=3):
    value = float(value)
    return MISSING if not math.isfinite(value) else plain(100 * value, digits) + "\u2009%"


def count(value):
    """An integer with thin spaces between thousands."""
    return f"{int(value):,}".replace(",", "\u2009").replace("-", MINUS)


def data(value, write=signed):
    """The number as an HTML element that keeps its full precision: <data value="0.01423…">+0.0142</data>."""
    value = float(value)
    if math.isnan(value):
        return MISSING
    return f'<data value="{value!r}">{html.escape(write(value))}</data>'


def interval(low, high, write=signed):
    if math.isnan(float(low)) or math.isnan(float(high)):
        return MISSING
    return f"[{data(low, write)}, {data(high, write)}]"


def short_hash(text, digits=12):
    return str(text)[:digits] if text else MISSING
