"""Round numbers for scales: ticks, scale bars, and how many digits they need."""

import math


def round_step(span: float, count: int) -> float:
    """The 1-2-5 step that divides ``span`` into at most about ``count`` parts; 1.0 where there is no span."""
    if not (span > 0 and math.isfinite(span)):
        return 1.0
    raw = span / max(count, 1)
    decade = 10.0 ** math.floor(math.log10(raw))
    return next(factor * decade for factor in (1.0, 2.0, 5.0, 10.0) if factor * decade >= raw * 0.999)


def ticks(low: float, high: float, count: int) -> list[float]:
    """Multiples of a round step inside [low, high]."""
    step = round_step(high - low, count)
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [index * step for index in range(first, last + 1)] if last - first < 1000 else []


def decimals(step: float) -> int:
    """Digits after the point that tell multiples of ``step`` apart."""
    return max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0


def number(value: float, digits: int) -> str:
    """``value`` with a true minus sign and without a negative zero."""
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")
