"""The field: geometry, goals, sensors and time, from placed bodies and from play."""

import numpy as np
import pytest

from tuner.envs.soccer import kernels, pitch
from tuner.envs.soccer.field import Field
from tuner.envs.soccer.opponents import SCRIPTS, opponent

STILL = np.zeros((1, 4, 3), np.int64)
FAR = [[-14.0, 0.0, 90.0], [-14.0, 3.0, 90.0], [14.0, 0.0, -90.0], [14.0, 3.0, -90.0]]
RAYS = pitch.FORWARD_RAYS


def arranged(players=FAR, ball=(0.0, 0.0), velocity=(0.0, 0.0), clock=0):
    """One match with its bodies where the test wants them."""
    field = Field(1)
    field.reset([0])
    bodies, *rest = field.get_state()
    bodies[0, :4, :3] = players
    bodies[0, 4] = [*ball, 0.0, *velocity]
    rest[1][:] = clock
    field.set_state([bodies, *rest])
    return field


def newest(field, player):
    """The 14 rays of a player's newest frame, (14, 8)."""
    seen = field.observations[0, player]
    forward = seen[: 3 * RAYS * 8].reshape(3, RAYS, 8)[2]
    backward = seen[3 * RAYS * 8 :].reshape(3, 3, 8)[2]
    return np.concatenate([forward, backward])


def play(field, steps, seed=0):
    actions = np.random.default_rng(seed).integers(0, 3, (steps, field.number, 4, 3))
    for action in actions:
        field.step(action)
        yield field


def test_the_same_seed_and_actions_give_the_same_match_however_many_play_beside_it():
    one, many = Field(1), Field(5)
    one.reset([7])
    many.reset([3, 7, 9, 11, 13])
    actions = np.random.default_rng(0).integers(0, 3, (2500, 5, 4, 3))
    ended = 0
    for action in actions:
        one.step(action[1:2])
        many.step(action)
        for name in ("observations", "rewards", "terminateds", "truncateds", "extras"):
            np.testing.assert_array_equal(getattr(one, name)[0], getattr(many, name)[1])
        ended += one.terminateds[0] or one.truncateds[0]
    assert ended >= 2


def test_seeds_start_matches_differently():
    field = Field(100)
    field.reset(range(100))
    assert len({extras.tobytes() for extras in field.extras}) == 100
    first = field.extras.copy()
    field.reset()
    assert not np.any(np.all(first == field.extras, axis=(1, 2)))
    field.reset(range(100))
    np.testing.assert_array_equal(first, field.extras)


def test_players_start_on_their_own_half_and_the_ball_near_the_centre():
    field = Field(500)
    field.reset(range(500))
    x, z, heading = field.extras[:, :, 0], field.extras[:, :, 1], field.extras[:, :, 2]
    assert np.all(x[:, :2] < 0) and np.all(x[:, 2:] > 0)
    assert np.allclose(np.abs(x).mean(), pitch.START_X, atol=0.3) and np.ptp(np.abs(x)) <= 2 * pitch.START_SPREAD
    assert np.all(np.abs(z) == np.float32(pitch.START_Z))
    assert np.all(np.abs(np.abs(heading) - 90) <= 10) and np.all(heading[:, :2] > 0) and np.all(heading[:, 2:] < 0)
    assert np.all(np.abs(field.extras[:, :, 5:7]) <= pitch.BALL_SPREAD)
    assert np.all(field.extras[:, :, [3, 4, 7, 8]] == 0)


def test_one_decision_is_five_updates_of_speed_and_drag():
    field = arranged()
    field.step(np.array([[[1, 0, 0], [0, 1, 0], [2, 0, 2], [0, 0, 1]]]))
    speed = x = 0.0
    for _ in range(5):
        speed = (speed + 2.0) * 0.94
        x += 0.02 * speed
    forward, sideways, back, turned = field.extras[0]
    assert forward[0] == pytest.approx(-14.0 + x) and forward[3] == pytest.approx(speed)
    assert sideways[4] == pytest.approx(-0.3 * speed, rel=1e-5)  # to the right of +x is -z
    assert back[2] == pytest.approx(-80.0) and back[3] > 0
    assert turned[2] == pytest.approx(-100.0)
    assert np.all(field.extras[0, :, 5:] == 0)


@pytest.mark.parametrize(("side", "scorers", "conceders"), [(1, [0, 1], [2, 3]), (-1, [2, 3], [0, 1])])
def test_a_goal_ends_the_match_and_is_worth_less_the_later_it_falls(side, scorers, conceders):
    field = arranged(
        ball=(side * 15.2, 0.0), velocity=(side * 20.0, 0.0), clock=2000, players=[[0, z, 0] for z in (-6, -2, 2, 6)]
    )
    field.step(STILL)
    assert field.terminateds[0] and not field.truncateds[0]
    assert field.rewards[0, scorers] == pytest.approx([1 - 2001 / 5000] * 2)
    assert field.rewards[0, conceders].tolist() == [-1, -1]
    field.step(np.ones((1, 4, 3), np.int64))
    assert not field.terminateds[0] and not field.rewards.any()
    assert np.all(field.extras[0, :, [3, 4, 7, 8]] == 0), (
        "the step after the end begins a new match, its actions ignored"
    )


def test_a_ball_beside_the_mouth_bounces():
    field = arranged(ball=(14.0, 5.5), velocity=(30.0, 0.0))
    for _ in range(5):
        field.step(STILL)
        assert not field.terminateds[0]
    assert field.extras[0, 0, 7] < 0


def test_a_match_without_a_goal_is_truncated_after_1000_decisions():
    field = arranged()
    for decision in range(1, 1001):
        field.step(STILL)
        assert field.truncateds[0] == (decision == 1000) and not field.terminateds[0]
    assert not field.rewards.any()


def test_a_kick_is_given_once_a_touch_and_only_when_running_forward():
    def ball_speed(drive, touched):
        field = arranged(players=[[-1.0, 0.0, 90.0], *FAR[1:]])
        state = field.get_state()
        state[1][0, 0] = touched
        field.set_state(state)
        field.step(np.array([[[drive, 0, 0], *STILL[0, 1:]]]))
        return field.extras[0, 0, 7]

    kicked, pushed, untouched = ball_speed(1, False), ball_speed(1, True), ball_speed(0, False)
    assert kicked > 11 and 0 < pushed < 9 and untouched == 0


def test_rays_name_what_they_hit_and_how_far_it_is():
    field = arranged(players=[[-5.0, 0.0, 90.0], [-5.0, -4.0, 90.0], [5.0, 0.0, -90.0], [14.0, 5.0, -90.0]])
    field.step(STILL)
    blue, orange = newest(field, 0), newest(field, 2)
    ahead = np.zeros(8)
    ahead[[0, 7]] = 1, (5.0 - 0.5 - 0.624) / 20
    np.testing.assert_allclose(blue[0], ahead, atol=1e-6)
    np.testing.assert_allclose(orange[0], ahead, atol=1e-6)
    behind = np.zeros(8)
    behind[[1, 7]] = 1, (17.37 - 0.5 - 5.0) / 20
    np.testing.assert_allclose(blue[RAYS], behind, atol=1e-6)
    right = blue[9]  # 60 degrees to the right, that is 30 degrees off -z: only the side wall is there
    np.testing.assert_allclose(right[[3, 7]], [1, (7.51 - 0.5) / np.cos(np.radians(30)) / 20], atol=1e-6)


def test_a_ray_that_meets_nothing_in_20_metres_says_so():
    field = arranged(players=[[-14.9, 0.0, 90.0], *FAR[1:]], ball=(0.0, 6.0))
    field.step(STILL)
    miss = newest(field, 0)[0]
    assert miss[6] == 1 and miss[7] == 1 and not miss[:6].any()


def test_mates_and_opponents_have_tags_of_their_own():
    field = arranged(
        players=[[0.0, 0.0, 90.0], [5.0, 0.0, 90.0], [-5.0, 0.0, -90.0], [14.0, 5.0, 0.0]], ball=(0.0, 6.0)
    )
    field.step(STILL)
    assert newest(field, 0)[0, 4] == 1 and newest(field, 0)[RAYS, 5] == 1
    assert newest(field, 1)[RAYS, 4] == 1
    assert newest(field, 2)[RAYS, 5] == 1


def test_frames_are_stacked_oldest_first_and_begin_empty():
    field = Field(1)
    field.reset([1])
    frames = [newest(field, 0)[:RAYS]]
    assert not field.observations[0, 0, : 2 * RAYS * 8].any()
    for field_ in play(field, 5):
        frames.append(newest(field_, 0)[:RAYS])
        shown = field.observations[0, 0, : 3 * RAYS * 8].reshape(3, RAYS, 8)
        expected = ([np.zeros_like(frames[0])] * 2 + frames)[-3:]
        np.testing.assert_array_equal(shown, expected)


def test_the_other_team_sees_and_plays_the_same_game_turned_round():
    players = np.array([[-3.0, 1.0, 70.0], [-6.0, -2.0, 100.0], [4.0, 2.0, -60.0], [8.0, -3.0, -120.0]])
    turned = players * [-1, -1, 1] + [0, 0, 180]
    ours = arranged(players=players, ball=(1.0, -0.5), velocity=(2.0, 3.0))
    theirs = arranged(players=turned[[2, 3, 0, 1]], ball=(-1.0, 0.5), velocity=(-2.0, -3.0))
    actions = np.random.default_rng(3).integers(0, 3, (6, 1, 4, 3))
    for action in actions:
        ours.step(action)
        theirs.step(action[:, [2, 3, 0, 1]])
        for player, turned_player in enumerate([2, 3, 0, 1]):
            np.testing.assert_allclose(newest(ours, player), newest(theirs, turned_player), atol=1e-5)


def test_nobody_leaves_the_pitch_and_observations_stay_in_range():
    field = Field(64)
    field.reset(range(64))
    for field_ in play(field, 1500):
        x, z = np.abs(field_.extras[..., 0]), np.abs(field_.extras[..., 1])
        assert np.all(x <= pitch.GOAL_BACK - pitch.PLAYER_RADIUS + 1e-4)
        assert np.all(z <= pitch.HALF_WIDTH - pitch.PLAYER_RADIUS + 1e-4)
        inside = x <= pitch.LINE
        corner = pitch.CORNER_X * x + pitch.CORNER_Z * z
        assert np.all(corner[inside] <= pitch.CORNER - pitch.PLAYER_RADIUS + 1e-3)
        assert field_.observations.min() >= 0 and field_.observations.max() <= 1
        assert np.isfinite(field_.extras).all()
        assert np.all(np.abs(field_.extras[..., 6]) <= pitch.HALF_WIDTH)


def test_a_saved_state_goes_on_as_if_never_interrupted():
    field, other = Field(8), Field(8)
    field.reset(range(8))
    for _ in play(field, 700):
        pass
    other.set_state(field.get_state())
    ended = 0
    for a, b in zip(play(field, 700, seed=1), play(other, 700, seed=1), strict=True):
        np.testing.assert_array_equal(a.observations, b.observations)
        np.testing.assert_array_equal(a.rewards, b.rewards)
        ended += a.terminateds.sum()
    assert ended > 0


def test_random_numbers_are_uniform_and_differ_between_neighbouring_seeds():
    generators = np.arange(2, dtype=np.uint64)
    drawn = np.array([[kernels.random(generators, match) for match in range(2)] for _ in range(20_000)])
    assert (
        drawn.min() >= 0 and drawn.max() < 1 and abs(drawn.mean() - 0.5) < 0.01 and abs(drawn.std() - 12**-0.5) < 0.005
    )
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.03


def points(first, second, matches=64, steps=1200):
    """The share of points that a script takes from another one, half of the matches on each side."""
    field = Field(matches)
    field.reset(range(matches))
    teams = [opponent(first, matches), opponent(second, matches)]
    for team in teams:
        team.seed(range(matches))
    won = lost = drawn = 0
    actions = np.zeros((matches, 4, 3), np.int64)
    half = matches // 2
    for _ in range(steps):
        for blue, orange, rows in ((*teams, slice(half)), (*teams[::-1], slice(half, None))):
            actions[rows, :2], actions[rows, 2:] = blue.act(field, 0)[rows], orange.act(field, 1)[rows]
        field.step(actions)
        goals = np.sign(field.rewards[:, 0]) * np.where(np.arange(matches) < half, 1, -1)
        won, lost = won + (goals > 0).sum(), lost + (goals < 0).sum()
        drawn += field.truncateds.sum()
    return (won + drawn / 2) / (won + lost + drawn)


def test_the_chaser_beats_the_others_and_nobody_has_a_better_side():
    assert points("chaser", "still") > 0.9
    assert points("chaser", "random") > 0.9
    assert 0.4 < points("chaser", "chaser") < 0.6
    assert 0.35 < points("random", "still") < 0.65


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_goes_on_from_its_state(name):
    field = Field(4)
    field.reset(range(4))
    first, second = opponent(name, 4), opponent(name, 4)
    first.seed(range(4))
    for _ in range(3):
        first.act(field, 1)
    second.set_state(first.get_state())
    for _ in range(5):
        np.testing.assert_array_equal(first.act(field, 1), second.act(field, 1))


def test_random_actions_are_the_same_for_the_same_seed_and_reach_every_branch():
    field, first, second = Field(3), opponent("random", 3), opponent("random", 3)
    first.seed([1, 2, 3])
    second.seed([1, 2, 4])
    drawn = np.array([[script.act(field, 1).copy() for script in (first, second)] for _ in range(300)])
    np.testing.assert_array_equal(drawn[:, 0, :2], drawn[:, 1, :2])
    assert not np.array_equal(drawn[:, 0, 2], drawn[:, 1, 2])
    assert set(np.unique(drawn)) == {0, 1, 2}
