"""The game in compiled loops: physics, goals and ray sensors of many matches. `Field` owns the arrays.

A body is (x, z, heading, x velocity, z velocity): bodies 0 to 3 are the players, body 4 is the ball. A heading is in
degrees, clockwise from +z as Unity's rotation about y; blue attacks towards +x.
"""

import math

import numpy as np

from tuner.compiled import compiled_exactly
from tuner.envs.soccer.pitch import (
    BACKWARD_RAYS,
    BALL_DRAG,
    BALL_MASS,
    BALL_RADIUS,
    BALL_SPREAD,
    BOUNCE,
    CORNER,
    CORNER_X,
    CORNER_Z,
    FORWARD_RAYS,
    GOAL_BACK,
    HALF_WIDTH,
    HEADING_SPREAD,
    KICK,
    LATERAL,
    LINE,
    MAX_UPDATES,
    PLAYER_DRAG,
    PLAYER_MASS,
    PLAYER_RADIUS,
    RAY_ANGLES,
    RAY_LENGTH,
    RAY_RADIUS,
    SPEED_CHANGE,
    START_SPREAD,
    START_X,
    START_Z,
    TURN,
    UPDATE_S,
    UPDATES,
)  # fmt: skip

BALL = 4
FRAMES, RAY_VALUES = 3, 8
TAGS = 6  # ball, own goal, opponent's goal, wall, mate, opponent; after them: nothing hit, distance
FORWARD = FORWARD_RAYS * RAY_VALUES
BACKWARD = BACKWARD_RAYS * RAY_VALUES
BEHIND = FRAMES * FORWARD  # where the backward sensor's numbers begin

_RADIANS = math.pi / 180.0
_RAY_COS = np.cos(np.radians(np.array(RAY_ANGLES)))
_RAY_SIN = np.sin(np.radians(np.array(RAY_ANGLES)))


@compiled_exactly
def random(generators, match):
    """A uniform number in [0, 1) from a match's own generator (splitmix64; Steele et al. 2014)."""
    generators[match] += np.uint64(0x9E3779B97F4A7C15)
    z = generators[match]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return np.float64(z >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@compiled_exactly
def place(match, bodies, touching, clock, generators, observations):
    """Begin an episode: players on their own half, the ball near the centre, no earlier frames."""
    for player in range(4):
        side = -1.0 if player < 2 else 1.0
        bodies[match, player, 0] = side * START_X + START_SPREAD * (2.0 * random(generators, match) - 1.0)
        bodies[match, player, 1] = START_Z if player % 2 == 0 else -START_Z
        bodies[match, player, 2] = -side * 90.0 + HEADING_SPREAD * (2.0 * random(generators, match) - 1.0)
        bodies[match, player, 3] = bodies[match, player, 4] = 0.0
        touching[match, player] = False
    for axis in range(2):
        bodies[match, BALL, axis] = BALL_SPREAD * (2.0 * random(generators, match) - 1.0)
    bodies[match, BALL, 2:] = 0.0
    clock[match] = 0
    observations[match] = 0.0


@compiled_exactly
def _opening(radius):
    """Half the goal mouth's width, for a body of this radius: where the corner walls meet the goal line."""
    return (CORNER - radius - CORNER_X * LINE) / CORNER_Z


@compiled_exactly
def _keep_inside(body, radius, bounce):
    """Push a body out of the walls; its velocity into one is turned back by the factor `bounce`."""
    for _ in range(2):  # a body in a corner between two walls
        x, z = abs(body[0]), abs(body[1])
        sx, sz = math.copysign(1.0, body[0]), math.copysign(1.0, body[1])
        if x > LINE:
            width, nx, nz, depth = _opening(radius), 0.0, 1.0, 0.0
            if x > GOAL_BACK - radius:
                nx, nz, depth = 1.0, 0.0, x - (GOAL_BACK - radius)
            elif z > width:
                depth = z - width
        else:
            nx, nz, depth = CORNER_X, CORNER_Z, CORNER_X * x + CORNER_Z * z - (CORNER - radius)
            if z - (HALF_WIDTH - radius) > max(depth, 0.0):
                nx, nz, depth = 0.0, 1.0, z - (HALF_WIDTH - radius)
        if depth <= 0.0:
            return
        nx, nz = nx * sx, nz * sz
        body[0] -= depth * nx
        body[1] -= depth * nz
        speed = body[3] * nx + body[4] * nz
        if speed > 0.0:
            body[3] -= (1.0 + bounce) * speed * nx
            body[4] -= (1.0 + bounce) * speed * nz


@compiled_exactly
def _collide(first, second, distance, first_mass, second_mass):
    """Part two bodies that are nearer than `distance`, without a bounce.

    Returns the contact's normal, from the first to the second; (0, 0) where they do not touch.
    """
    dx, dz = second[0] - first[0], second[1] - first[1]
    apart = math.sqrt(dx * dx + dz * dz)
    if apart >= distance:
        return 0.0, 0.0
    nx, nz = (dx / apart, dz / apart) if apart > 0.0 else (1.0, 0.0)
    share = second_mass / (first_mass + second_mass)
    overlap = distance - apart
    approach = (first[3] - second[3]) * nx + (first[4] - second[4]) * nz
    for body, part in ((first, -share), (second, 1.0 - share)):
        body[0] += part * overlap * nx
        body[1] += part * overlap * nz
        if approach > 0.0:
            body[3] += part * approach * nx
            body[4] += part * approach * nz
    return nx, nz


@compiled_exactly
def _update(bodies, touching, actions, clock):
    """One physics update of one match; 1 where blue scores in it, -1 where orange does, else 0."""
    for player in range(4):
        body = bodies[player]
        drive, sideways, rotate = actions[player, 0], actions[player, 1], actions[player, 2]
        if rotate > 0:
            body[2] += TURN if rotate == 2 else -TURN
            body[2] -= 360.0 * math.floor((body[2] + 180.0) / 360.0)  # in [-180, 180)
        sine, cosine = math.sin(body[2] * _RADIANS), math.cos(body[2] * _RADIANS)
        if sideways > 0:  # in place of forward or back
            change = SPEED_CHANGE * (LATERAL if sideways == 1 else -LATERAL)
            body[3] += change * cosine
            body[4] -= change * sine
        elif drive > 0:
            change = SPEED_CHANGE if drive == 1 else -SPEED_CHANGE
            body[3] += change * sine
            body[4] += change * cosine
        body[3] *= PLAYER_DRAG
        body[4] *= PLAYER_DRAG
        body[0] += UPDATE_S * body[3]
        body[1] += UPDATE_S * body[4]
    ball = bodies[BALL]
    ball[3] *= BALL_DRAG
    ball[4] *= BALL_DRAG
    ball[0] += UPDATE_S * ball[3]
    ball[1] += UPDATE_S * ball[4]
    for first in range(4):
        for second in range(first + 1, 4):
            _collide(bodies[first], bodies[second], 2.0 * PLAYER_RADIUS, PLAYER_MASS, PLAYER_MASS)
    for turn in range(4):
        player = (clock + turn) % 4  # whoever is last has the last word; nobody always is
        nx, nz = _collide(bodies[player], ball, PLAYER_RADIUS + BALL_RADIUS, PLAYER_MASS, BALL_MASS)
        is_touching = nx != 0.0 or nz != 0.0
        if is_touching and not touching[player] and actions[player, 0] == 1:
            ball[3] += KICK * nx
            ball[4] += KICK * nz
        touching[player] = is_touching
    for player in range(4):
        _keep_inside(bodies[player], PLAYER_RADIUS, 0.0)
    if abs(ball[0]) > LINE:
        back = (abs(ball[0]) - LINE) / max(abs(ball[3]), 1e-9)  # seconds since it crossed the line
        if abs(ball[1] - back * ball[4]) <= _opening(BALL_RADIUS):
            return 1 if ball[0] > 0.0 else -1
        ball[0] = math.copysign(LINE, ball[0])  # it came through the post: back to the wall
    _keep_inside(ball, BALL_RADIUS, BOUNCE)
    return 0


@compiled_exactly
def _circle_distance(ox, oz, dx, dz, cx, cz, radius):
    """How far a ray runs until it meets a circle; infinite where it does not, 0 from inside where it goes inwards."""
    toward = (cx - ox) * dx + (cz - oz) * dz
    if toward <= 0.0:
        return math.inf
    outside = (cx - ox) ** 2 + (cz - oz) ** 2 - radius * radius
    if outside <= 0.0:
        return 0.0
    square = toward * toward - outside
    return toward - math.sqrt(square) if square >= 0.0 else math.inf


@compiled_exactly
def _wall_distance(ox, oz, dx, dz):
    """How far a ray runs until it meets a wall or the inside of a goal, and the goal's side: 1, -1, or 0 for a wall."""
    sx, sz = math.copysign(1.0, dx), math.copysign(1.0, dz)
    ax, az = abs(dx), abs(dz)
    x, z = ox * sx, oz * sz
    wall = (HALF_WIDTH - RAY_RADIUS - z) / az if az > 0.0 else math.inf
    for mx, mz in ((1.0, 1.0), (1.0, -1.0), (-1.0, 1.0)):  # the corners that it can run into
        along = CORNER_X * mx * ax + CORNER_Z * mz * az
        if along > 0.0:
            wall = min(wall, (CORNER - RAY_RADIUS - CORNER_X * mx * x - CORNER_Z * mz * z) / along)
    if ax > 0.0 and LINE - x < wall * ax:
        inside = (GOAL_BACK - RAY_RADIUS - x) / ax
        if az > 0.0:
            inside = min(inside, (_opening(RAY_RADIUS) - z) / az)
        return max(inside, 0.0), sx
    return max(wall, 0.0), 0.0


@compiled_exactly
def _see(bodies, player, observation):
    """Write a player's newest frame; the older two move up."""
    for i in range((FRAMES - 1) * FORWARD):
        observation[i] = observation[i + FORWARD]
    for i in range(BEHIND, BEHIND + (FRAMES - 1) * BACKWARD):
        observation[i] = observation[i + BACKWARD]
    observation[BEHIND - FORWARD : BEHIND] = 0.0
    observation[BEHIND + (FRAMES - 1) * BACKWARD :] = 0.0
    ox, oz = bodies[player, 0], bodies[player, 1]
    heading = bodies[player, 2] * _RADIANS
    sine, cosine = math.sin(heading), math.cos(heading)
    attacks = 1.0 if player < 2 else -1.0
    for ray in range(FORWARD_RAYS + BACKWARD_RAYS):
        dx = sine * _RAY_COS[ray] + cosine * _RAY_SIN[ray]
        dz = cosine * _RAY_COS[ray] - sine * _RAY_SIN[ray]
        distance, goal = _wall_distance(ox, oz, dx, dz)
        tag = 3 if goal == 0.0 else 2 if goal == attacks else 1
        for body in range(5):
            if body == player:
                continue
            radius = RAY_RADIUS + (BALL_RADIUS if body == BALL else PLAYER_RADIUS)
            meets = _circle_distance(ox, oz, dx, dz, bodies[body, 0], bodies[body, 1], radius)
            if meets < distance:
                distance = meets
                tag = 0 if body == BALL else 4 if body // 2 == player // 2 else 5
        at = BEHIND - FORWARD + ray * RAY_VALUES
        if ray >= FORWARD_RAYS:
            at = BEHIND + (FRAMES - 1) * BACKWARD + (ray - FORWARD_RAYS) * RAY_VALUES
        if distance > RAY_LENGTH:
            observation[at + TAGS] = observation[at + TAGS + 1] = 1.0
        else:
            observation[at + tag] = 1.0
            observation[at + TAGS + 1] = distance / RAY_LENGTH


@compiled_exactly
def show(match, bodies, observations, extras):
    """What the four players of a match see, and what is sent beside it."""
    ball = bodies[match, BALL]
    for player in range(4):
        _see(bodies[match], player, observations[match, player])
        for i in range(5):
            extras[match, player, i] = bodies[match, player, i]
        extras[match, player, 5], extras[match, player, 6] = ball[0], ball[1]
        extras[match, player, 7], extras[match, player, 8] = ball[3], ball[4]


@compiled_exactly
def reset(bodies, touching, clock, generators, observations, extras, rewards, terminateds, truncateds):
    """Begin an episode in every match."""
    for match in range(len(clock)):
        place(match, bodies, touching, clock, generators, observations)
        show(match, bodies, observations, extras)
    rewards[:] = 0.0
    terminateds[:] = False
    truncateds[:] = False


@compiled_exactly
def step(actions, bodies, touching, clock, generators, observations, extras, rewards, terminateds, truncateds):
    """One decision in every match; a match that had ended begins an episode instead."""
    for match in range(len(clock)):
        rewards[match] = 0.0
        if terminateds[match] or truncateds[match]:
            terminateds[match] = truncateds[match] = False
            place(match, bodies, touching, clock, generators, observations)
        else:
            for _ in range(UPDATES):
                clock[match] += 1
                scored = _update(bodies[match], touching[match], actions[match], clock[match])
                if scored != 0:
                    for player in range(4):
                        is_scorer = (scored == 1) == (player < 2)
                        rewards[match, player] = 1.0 - clock[match] / MAX_UPDATES if is_scorer else -1.0
                    terminateds[match] = True
                    break
            truncateds[match] = clock[match] >= MAX_UPDATES and not terminateds[match]
        show(match, bodies, observations, extras)


@compiled_exactly
def draw_actions(generators, terminateds, truncateds, actions):
    """A team's actions in every match that goes on, each of the 27 as likely."""
    for match in range(actions.shape[0]):
        if terminateds[match] or truncateds[match]:  # a match alone asks for none when it begins anew
            continue
        for player in range(2):
            for branch in range(3):
                actions[match, player, branch] = math.floor(3.0 * random(generators, match))


@compiled_exactly
def chase(extras, team, actions):
    """A team whose players go around the ball to a place behind it, and from there run through it at the goal."""
    attacks = 1.0 if team == 0 else -1.0
    for match in range(actions.shape[0]):
        for player in range(2):
            x, z, heading, _, _, ball_x, ball_z, _, _ = extras[match, 2 * team + player]
            goal_x, goal_z = attacks * GOAL_BACK - ball_x, -ball_z
            far = math.hypot(goal_x, goal_z)
            goal_x, goal_z = goal_x / far, goal_z / far
            behind = (ball_x - x) * goal_x + (ball_z - z) * goal_z
            aside = (z - ball_z) * goal_x - (x - ball_x) * goal_z
            if behind > 0.0 and abs(aside) < 0.3 * behind + 0.3:
                target_x, target_z = ball_x, ball_z
            else:
                target_x, target_z = ball_x - 2.0 * goal_x, ball_z - 2.0 * goal_z
                if behind < 0.5:
                    around = math.copysign(2.5, aside)
                    target_x, target_z = target_x - around * goal_z, target_z + around * goal_x
            target_z = min(max(target_z, -HALF_WIDTH + 1.0), HALF_WIDTH - 1.0)
            turn = math.atan2(target_x - x, target_z - z) / _RADIANS - heading
            turn -= 360.0 * math.floor((turn + 180.0) / 360.0)
            actions[match, player, 0] = 1 if abs(turn) < 12.0 else 0
            actions[match, player, 1] = 0
            actions[match, player, 2] = 0 if abs(turn) < TURN * UPDATES / 2.0 else 2 if turn > 0.0 else 1
