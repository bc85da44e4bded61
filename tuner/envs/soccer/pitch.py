"""The pitch and the bodies on it: metres, seconds, degrees. Values of the public Unity project."""

from __future__ import annotations

import math

LINE = 15.5  # a goal line's |x|; behind it, between the corner walls, is the goal
GOAL_BACK = 17.37
HALF_WIDTH = 7.51
# The four corner walls: (±CORNER_X, ±CORNER_Z) · (x, z) = CORNER.
CORNER_X, CORNER_Z, CORNER = math.sqrt(3) / 2, 0.5, 15.5
PLAYER_RADIUS, BALL_RADIUS = 0.5, 0.624
PLAYER_MASS, BALL_MASS = 50.0, 3.0

START_X, START_Z, START_SPREAD = 8.19, 1.2, 5.0
HEADING_SPREAD = 10.0
BALL_SPREAD = 2.5

UPDATE_S = 0.02
UPDATES = 5  # a decision
MAX_UPDATES = 5000  # an episode
SPEED_CHANGE = 2.0  # m/s an update
LATERAL = 0.3  # of it, sideways
PLAYER_DRAG, BALL_DRAG = 0.94, 0.98
TURN = 2.0  # degrees an update
KICK = 2000.0 * UPDATE_S / BALL_MASS  # m/s
BOUNCE = 0.6  # of the ball from a wall

RAY_LENGTH, RAY_RADIUS = 20.0, 0.5
FORWARD_RAYS, BACKWARD_RAYS = 11, 3
# Degrees from straight ahead to the right, in ML-Agents' order; those of the backward sensor follow.
RAY_ANGLES = (
    *(0.0, 12.0, -12.0, 24.0, -24.0, 36.0, -36.0, 48.0, -48.0, 60.0, -60.0),
    *(180.0, 225.0, 135.0),
)
