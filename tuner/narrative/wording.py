"""Numbers as a reader wants them in a sentence. Says nothing itself."""

from __future__ import annotations

from collections.abc import Sequence


def number(value: float) -> str:
    """1,234; 475; 61.28; 0.12: no more digits than are read, and never -0."""
    size = abs(value)
    if isinstance(value, int):
        return f"{value:,}"
    if value == 0:
        return "0"
    if size < 1 or size >= 1e15:
        return f"{value:.3g}"
    return f"{value:,.0f}" if size >= 1e4 else f"{value:,.2f}".rstrip("0").rstrip(".")


def count(amount: int, noun: str) -> str:
    """1 episode; 1,234 episodes."""
    return f"{number(amount)} {noun}{'' if amount == 1 else 's'}"


def share(part: float) -> str:
    """A part of one in percent; what is little or nearly all is not rounded to nothing or everything."""
    if 0 < part < 0.01:
        return "under 1%"
    return "over 99%" if 0.99 < part < 1 else f"{part:.0%}"


def coefficient(value: float) -> str:
    """Two decimals, and never -0.00."""
    return f"{round(value, 2) + 0.0:.2f}"


def listed(parts: Sequence[str]) -> str:
    """a; a and b; a, b and c."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def capital(text: str) -> str:
    """The text as a sentence begins."""
    return text[:1].upper() + text[1:]
