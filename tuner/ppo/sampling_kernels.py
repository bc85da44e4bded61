"""Compiled bookkeeping of sampling: which steps are experience, where episodes end, and a batch in RLlib's order."""

from __future__ import annotations

import numpy as np

from tuner.compiled import compiled

# The counters that `record` keeps.
ENV_STEPS, CALL_STEPS, EPISODES, CHUNKS, COUNTERS = range(5)
# The columns of a chunk: one environment's steps start…end of an episode, and how they end.
ENVIRONMENT, START, END, TERMINATED, TRUNCATED = range(5)


@compiled
def record(t, rewards, terminateds, truncateds, stored, is_done, returns, lengths, starts, chunks, episodes, counters):
    """Account for one step of all environments.

    An environment that was done resets in this step (Gymnasium's NEXT_STEP): no reward, and no experience.

    Args:
        t: the step's row in the sampler's arrays.
        rewards, terminateds, truncateds: (environments,), what the step returned.
        stored: (steps, environments) float32, the rewards, written at t.
        is_done: (environments,) bool, whose episode ended in the step before.
        returns, lengths: (environments,) float64 and int64, of the episodes in flight.
        starts: (environments,) int64, where the current chunk began.
        chunks: (…, 5) int64, appended to.
        episodes: (…, 3) float64: return, length and environment steps at its end, appended to.
        counters: (COUNTERS,) int64.
    """
    for environment in range(rewards.shape[0]):
        if is_done[environment]:
            is_done[environment] = False
            starts[environment] = t + 1
            continue
        counters[ENV_STEPS] += 1
        counters[CALL_STEPS] += 1
        stored[t, environment] = rewards[environment]
        returns[environment] += rewards[environment]
        lengths[environment] += 1
        if terminateds[environment] or truncateds[environment]:
            is_done[environment] = True
            episode, chunk = episodes[counters[EPISODES]], chunks[counters[CHUNKS]]
            episode[0], episode[1] = returns[environment], lengths[environment]
            episode[2] = counters[ENV_STEPS]
            chunk[ENVIRONMENT], chunk[START], chunk[END] = environment, starts[environment], t + 1
            chunk[TERMINATED], chunk[TRUNCATED] = terminateds[environment], truncateds[environment]
            counters[EPISODES] += 1
            counters[CHUNKS] += 1
            returns[environment] = lengths[environment] = 0


@compiled
def cut(t, is_done, starts, chunks, counters):
    """End the chunks of all episodes in flight before row t; they go on in chunks of their own."""
    for environment in range(is_done.shape[0]):
        if not is_done[environment] and starts[environment] < t:
            chunk = chunks[counters[CHUNKS]]
            chunk[ENVIRONMENT], chunk[START], chunk[END] = environment, starts[environment], t
            chunk[TERMINATED], chunk[TRUNCATED] = False, True
            counters[CHUNKS] += 1
        starts[environment] = t
    counters[CALL_STEPS] = 0


@compiled
def lay_out(chunks, count, stored, rows, is_real, rewards, terminateds, truncateds):
    """Write `count` chunks one after another, each with its last observation as one more row; how many rows.

    Source: RLlib's AddOneTsToEpisodesAndTruncate.
    """
    environments = stored.shape[1]
    row = 0
    for i in range(count):
        chunk = chunks[i]
        for t in range(chunk[START], chunk[END] + 1):
            is_last = t == chunk[END] - 1
            rows[row] = t * environments + chunk[ENVIRONMENT]
            is_real[row] = t < chunk[END]
            rewards[row] = stored[t, chunk[ENVIRONMENT]] if t < chunk[END] else np.float32(0)
            terminateds[row] = is_last and chunk[TERMINATED]
            truncateds[row] = is_last and chunk[TRUNCATED]
            row += 1
    return row
