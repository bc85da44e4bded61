"""A match from above as a picture: pitch, players with their headings, ball, score and time."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tuner.envs.soccer import pitch

WIDTH, HEIGHT = 620, 330
_FINE = 3  # drawn so many times as large, then made smaller: smooth edges
_SCALE = 16.8 * _FINE  # pixels a metre
_CENTRE = (WIDTH * _FINE / 2, (HEIGHT + 42) * _FINE / 2)  # below the line of text
_LINE = 2 * _FINE
_STRIPES = 10
_MARK_RADIUS = 3.0

_NIGHT, _WALL, _CHALK, _INK = "#20262b", "#dfe6e2", "#8fbf92", "#14181b"
_GRASS, _SHADE = ("#3f8f4f", "#45985a"), "#32743f"
_TEAMS = (("BLUE", "#3d7dea", "#284c86"), ("ORANGE", "#f2902f", "#8f5a26"))  # name, shirt, goal

Point = tuple[float, float]


def draw(
    extras: NDArray[np.float32], seconds: float | None = None, score: tuple[int, int] = (0, 0)
) -> NDArray[np.uint8]:
    """The (330, 620, 3) picture of one match.

    Args:
        extras: (4, 9), what each player sends beside its observation, as `matches.EXTRAS` says.
        seconds: time played; None leaves it out.
        score: goals of blue and of orange.
    """
    image = _empty().copy()
    pen = ImageDraw.Draw(image)
    places = [(float(x), float(z)) for x, z in extras[:, :2]]
    ball = (float(extras[0, 5]), float(extras[0, 6]))
    for place in places:
        _disc(pen, _shadow(place), pitch.PLAYER_RADIUS, _SHADE)
    _disc(pen, _shadow(ball), pitch.BALL_RADIUS, _SHADE)
    for player, (place, heading) in enumerate(zip(places, extras[:, 2], strict=True)):
        _player(pen, place, math.radians(float(heading)), _TEAMS[player // 2][1])
    _disc(pen, ball, pitch.BALL_RADIUS, "white", _INK)
    _text(pen, seconds, score)
    return np.asarray(image.reduce(_FINE))


@functools.cache
def _empty() -> Image.Image:
    """The pitch without a match, in the fine size."""
    image = Image.new("RGB", (WIDTH * _FINE, HEIGHT * _FINE), _NIGHT)
    pen = ImageDraw.Draw(image)
    corner = (pitch.CORNER - pitch.CORNER_Z * pitch.HALF_WIDTH) / pitch.CORNER_X
    mouth = (pitch.CORNER - pitch.CORNER_X * pitch.LINE) / pitch.CORNER_Z
    quarter = [(corner, pitch.HALF_WIDTH), (pitch.LINE, mouth), (pitch.GOAL_BACK, mouth)]
    right = [*quarter, *((x, -z) for x, z in reversed(quarter))]
    walls = _pixels([*right, *((-x, -z) for x, z in right)])

    ground = Image.new("RGB", image.size, _TEAMS[0][2])  # the goals; the grass covers what lies between
    mower = ImageDraw.Draw(ground)
    mower.rectangle(_box((0, pitch.HALF_WIDTH), (pitch.GOAL_BACK, -pitch.HALF_WIDTH)), _TEAMS[1][2])
    breadth = 2 * pitch.LINE / _STRIPES
    for stripe in range(_STRIPES):
        left = stripe * breadth - pitch.LINE
        mower.rectangle(_box((left, pitch.HALF_WIDTH), (left + breadth, -pitch.HALF_WIDTH)), _GRASS[stripe % 2])
    for x in (-pitch.LINE, 0.0, pitch.LINE):
        mower.line(_pixels([(x, pitch.HALF_WIDTH), (x, -pitch.HALF_WIDTH)]), _CHALK, _LINE)
    mower.ellipse(_around((0, 0), _MARK_RADIUS), outline=_CHALK, width=_LINE)
    mower.ellipse(_around((0, 0), 0.2), _CHALK)

    inside = Image.new("L", image.size)
    ImageDraw.Draw(inside).polygon(walls, 255)
    image.paste(ground, mask=inside)
    pen.line([*walls, walls[0]], _WALL, 2 * _LINE, joint="curve")
    return image


def _player(pen: ImageDraw.ImageDraw, place: Point, heading: float, colour: str) -> None:
    """A disc with a nose that points where the player looks; headings run clockwise from +z, that is from upwards."""

    def ahead(angle: float, distance: float) -> Point:
        reach = pitch.PLAYER_RADIUS * distance
        return place[0] + reach * math.sin(heading + angle), place[1] + reach * math.cos(heading + angle)

    pen.polygon(_pixels([ahead(0.0, 1.9), ahead(0.85, 1.05), ahead(-0.85, 1.05)]), "white")
    _disc(pen, place, pitch.PLAYER_RADIUS, colour, "white")


def _disc(pen: ImageDraw.ImageDraw, place: Point, radius: float, fill: str, outline: str | None = None) -> None:
    pen.ellipse(_around(place, radius), fill, outline, _LINE)


def _text(pen: ImageDraw.ImageDraw, seconds: float | None, score: tuple[int, int]) -> None:
    middle, height = WIDTH * _FINE / 2, 22 * _FINE
    font = _font(17)
    pen.text((middle, height), f"{score[0]} : {score[1]}", "white", font, anchor="mm")
    for (name, colour, _), side, anchor in zip(_TEAMS, (-1, 1), ("rm", "lm"), strict=True):
        pen.text((middle + side * 32 * _FINE, height), name, colour, font, anchor=anchor)
    if seconds is not None:
        pen.text((WIDTH * _FINE - 20 * _FINE, height), f"{seconds:.1f} s", _WALL, _font(14), anchor="rm")


@functools.cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size * _FINE)


def _shadow(place: Point) -> Point:
    return place[0] + 0.12, place[1] - 0.16


def _pixel(place: Point) -> Point:
    """Where on the fine picture a place of the pitch is: x to the right, z upwards."""
    return _CENTRE[0] + _SCALE * place[0], _CENTRE[1] - _SCALE * place[1]


def _pixels(places: Iterable[Point]) -> Sequence[Point]:
    return [_pixel(place) for place in places]


def _box(top_left: Point, bottom_right: Point) -> tuple[float, float, float, float]:
    return *_pixel(top_left), *_pixel(bottom_right)


def _around(place: Point, radius: float) -> tuple[float, float, float, float]:
    return _box((place[0] - radius, place[1] + radius), (place[0] + radius, place[1] - radius))
