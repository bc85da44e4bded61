"""Matches as pictures."""

from __future__ import annotations

from typing import Any

import numpy as np

from tuner.envs.soccer.drawing import HEIGHT, WIDTH, draw

FAR = 6.0


def picture(**changed: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Players in the four quarters, looking up, the ball in the middle."""
    extras = np.zeros((4, 9), np.float32)
    extras[:, :2] = [(-FAR, 4), (-FAR, -4), (FAR, 4), (FAR, -4)]
    extras[:, 2] = changed.pop("heading", 0.0)
    extras[:, 5:7] = changed.pop("ball", (0.0, 0.0))
    return draw(extras, **changed)


def test_it_is_a_picture_of_its_size() -> None:
    assert picture().shape == (HEIGHT, WIDTH, 3) and picture().dtype == np.uint8


def test_it_is_a_function_of_what_it_is_given() -> None:
    before = picture()
    picture(ball=(9.0, 1.0))
    np.testing.assert_array_equal(picture(), before)


def test_blue_is_left_and_orange_right_and_z_points_up() -> None:
    drawn = picture().astype(int)
    red, blue = drawn[:, :, 0], drawn[:, :, 2]
    heights, widths = np.nonzero((blue > 200) & (red < 100))
    pitch = heights > 45  # below the line of text
    assert widths[pitch].max() < WIDTH / 2
    assert {height < HEIGHT / 2 for height in heights[pitch]} == {True, False}
    heights, widths = np.nonzero((red > 200) & (blue < 80))
    assert widths[heights > 45].min() > WIDTH / 2


def test_the_ball_is_where_it_is_said_to_be() -> None:
    changed = (picture(ball=(3.0, 6.0)) != picture(ball=(0.0, 0.0))).any(axis=2)
    heights, widths = np.nonzero(changed)
    assert widths.max() - widths.min() > 2 * (heights.max() - heights.min()) / 6, "one moved to the right"
    upper = widths[heights < heights.min() + 10]
    assert upper.mean() > WIDTH / 2, "and upwards"


def test_a_heading_runs_clockwise_from_upwards() -> None:
    """White noses: more white above a player that looks up, on its right at 90 degrees, below at 180."""
    scale = (WIDTH / 2) / 18.45
    column, row = round(WIDTH / 2 + FAR * scale), round((HEIGHT + 42) / 2 - 4 * scale)
    centres = []
    for heading in (0.0, 90.0, 180.0, 270.0):
        near = picture(heading=heading)[row - 16 : row + 17, column - 16 : column + 17].min(axis=2) > 200
        centres.append(np.argwhere(near).mean(axis=0) - 16)
    up, right, down, left = centres
    assert up[0] < down[0] - 2 and left[1] < right[1] - 2
    assert abs(up[1] - down[1]) < 1 and abs(left[0] - right[0]) < 1


def test_score_and_time_are_in_the_line_of_text() -> None:
    plain = picture(seconds=1.0)
    for other in (picture(seconds=2.0), picture(seconds=1.0, score=(1, 0)), picture(seconds=1.0, score=(0, 1))):
        rows = np.nonzero((other != plain).any(axis=(1, 2)))[0]
        assert len(rows) and rows.max() < 45
    assert (picture() != plain).any(), "without a time there is none"
