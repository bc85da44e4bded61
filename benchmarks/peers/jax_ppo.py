"""Iterations a second of PPO_01 as one XLA program, environment included, on one core: the way of PureJaxRL."""

from __future__ import annotations

import os
import time
from typing import Any, NamedTuple

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import jax
import jax.numpy as jnp
from jax import lax, random

from benchmarks.measuring import iterate_for, rate, rate_arguments, report

ENVIRONMENTS, STEPS, MINIBATCHES, EPOCHS = 8, 16, 4, 6
LR, GAMMA, LAMBDA, CLIP, VF_COEFF = 5e-4, 0.99, 0.95, 0.5, 0.5
MAX_EPISODE_STEPS = 500
ITERATIONS_PER_CALL = 250
LEARNT_AFTER_STEPS = 400_000

Tree = Any


class Carts(NamedTuple):
    """All environments and what their episodes have gathered."""

    state: jax.Array  # (environments, 4): position, velocity, angle, angular velocity
    steps: jax.Array


class Carry(NamedTuple):
    """Everything that one iteration hands to the next."""

    params: Tree
    moments: tuple[Tree, Tree]
    updates: jax.Array
    carts: Carts
    key: jax.Array


class Transition(NamedTuple):
    """One step of all environments."""

    observation: jax.Array
    action: jax.Array
    logp: jax.Array
    value: jax.Array
    reward: jax.Array
    done: jax.Array


def fresh(key: jax.Array) -> jax.Array:
    """The first states of episodes."""
    return random.uniform(key, (ENVIRONMENTS, 4), minval=-0.05, maxval=0.05)


def step(carts: Carts, action: jax.Array, key: jax.Array) -> tuple[Carts, jax.Array]:
    """One Euler step of CartPole-v1; where an episode ends, the next one begins at once."""
    gravity, pole, total, half_length, tau = 9.8, 0.1, 1.1, 0.5, 0.02
    _, x_dot, theta, theta_dot = carts.state.T
    force = jnp.where(action == 1, 10.0, -10.0)
    cosine, sine = jnp.cos(theta), jnp.sin(theta)
    pushed = (force + pole * half_length * theta_dot**2 * sine) / total
    theta_acc = (gravity * sine - cosine * pushed) / (half_length * (4.0 / 3.0 - pole * cosine**2 / total))
    x_acc = pushed - pole * half_length * theta_acc * cosine / total
    rates = jnp.stack([x_dot, x_acc, theta_dot, theta_acc], axis=1)
    state, steps = carts.state + tau * rates, carts.steps + 1
    has_fallen = (jnp.abs(state[:, 0]) > 2.4) | (jnp.abs(state[:, 2]) > 12 * jnp.pi / 180)
    done = has_fallen | (steps >= MAX_EPISODE_STEPS)
    return Carts(jnp.where(done[:, None], fresh(key), state), jnp.where(done, 0, steps)), done


def network(key: jax.Array, outputs: int, last_scale: float) -> Tree:
    """Orthogonal weights and no biases of a 64-32 perceptron."""
    sizes, scales = (4, 64, 32, outputs), (2**0.5, 2**0.5, last_scale)
    return [
        (jax.nn.initializers.orthogonal(scale)(layer, (inputs, units)), jnp.zeros(units))
        for layer, inputs, units, scale in zip(random.split(key, 3), sizes, sizes[1:], scales, strict=False)
    ]


def forward(layers: Tree, x: jax.Array) -> jax.Array:
    """The perceptron's outputs."""
    for weight, bias in layers[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    return x @ layers[-1][0] + layers[-1][1]


def logp_of(logits: jax.Array, action: jax.Array) -> jax.Array:
    """The log-probabilities of actions."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], axis=-1)[..., 0]


def sample(carry: Carry) -> tuple[Carry, Transition]:
    """STEPS steps of all environments."""

    def one(carry: Carry, _: None) -> tuple[Carry, Transition]:
        key, act, reset = random.split(carry.key, 3)
        observation = carry.carts.state
        logits = forward(carry.params["policy"], observation)
        action = random.categorical(act, logits)
        value = forward(carry.params["value"], observation)[:, 0]
        carts, done = step(carry.carts, action, reset)
        made = Transition(observation, action, logp_of(logits, action), value, jnp.ones(ENVIRONMENTS), done)
        return carry._replace(carts=carts, key=key), made

    return lax.scan(one, carry, None, length=STEPS)


def advantages_of(batch: Transition, last_value: jax.Array) -> jax.Array:
    """Generalised advantage estimates."""

    def one(carry: tuple[jax.Array, jax.Array], t: Transition) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        advantage, following = carry
        goes_on = 1.0 - t.done
        delta = t.reward + GAMMA * following * goes_on - t.value
        advantage = delta + GAMMA * LAMBDA * goes_on * advantage
        return (advantage, t.value), advantage

    return lax.scan(one, (jnp.zeros(ENVIRONMENTS), last_value), batch, reverse=True)[1]


def loss(params: Tree, batch: Transition, advantage: jax.Array, target: jax.Array) -> jax.Array:
    """PPO's clipped loss with the value function's squared error."""
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    ratio = jnp.exp(logp_of(forward(params["policy"], batch.observation), batch.action) - batch.logp)
    gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * advantage)
    error = forward(params["value"], batch.observation)[:, 0] - target
    return -gain.mean() + VF_COEFF * (error**2).mean()


def adam(carry: Carry, gradients: Tree) -> Carry:
    """One step of Adam."""
    each, n = jax.tree.map, carry.updates + 1
    first = each(lambda m, g: 0.9 * m + 0.1 * g, carry.moments[0], gradients)
    second = each(lambda v, g: 0.999 * v + 0.001 * g * g, carry.moments[1], gradients)
    rate, root = LR / (1 - 0.9**n), jnp.sqrt(1 - 0.999**n)
    params = each(lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + 1e-8), carry.params, first, second)
    return carry._replace(params=params, moments=(first, second), updates=n)


def iterate(carry: Carry, _: None) -> tuple[Carry, tuple[jax.Array, jax.Array]]:
    """One PPO iteration; how many steps and episodes ended in it."""
    before = carry.carts.steps
    carry, batch = sample(carry)
    advantage = advantages_of(batch, forward(carry.params["value"], carry.carts.state)[:, 0])
    rows = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), (batch, advantage, advantage + batch.value))

    def minibatch(carry: Carry, rows: Tree) -> tuple[Carry, None]:
        return adam(carry, jax.grad(loss)(carry.params, *rows)), None

    def epoch(carry: Carry, _: None) -> tuple[Carry, None]:
        key, shuffle = random.split(carry.key)
        order = random.permutation(shuffle, ENVIRONMENTS * STEPS).reshape(MINIBATCHES, -1)
        return lax.scan(minibatch, carry._replace(key=key), jax.tree.map(lambda a: a[order], rows))

    carry, _ = lax.scan(epoch, carry, None, length=EPOCHS)
    ended_steps = before.sum() + ENVIRONMENTS * STEPS - carry.carts.steps.sum()
    return carry, (ended_steps, batch.done.sum())


def main() -> None:
    """Measure, train on until it must have learnt, and print; a return is the mean over one call's episodes."""
    parser = rate_arguments(__doc__)
    args = parser.parse_args()
    if args.env != "CartPole-v1":
        parser.error("--env: this peer has CartPole-v1 alone")
    key, policy, value, first = random.split(random.key(10), 4)
    params = {"policy": network(policy, 2, 0.01), "value": network(value, 1, 1.0)}
    zeros = jax.tree.map(jnp.zeros_like, params)
    carts = Carts(fresh(first), jnp.zeros(ENVIRONMENTS, jnp.int32))
    carry = Carry(params, (zeros, zeros), jnp.zeros((), jnp.int32), carts, key)
    started = time.perf_counter()
    program = jax.jit(lambda carry: lax.scan(iterate, carry, None, length=ITERATIONS_PER_CALL)).lower(carry).compile()
    compile_s = time.perf_counter() - started
    returns: list[float] = []

    def call() -> None:
        nonlocal carry
        carry, (steps, episodes) = program(carry)
        returns.append(float(steps.sum() / episodes.sum()))

    marks = iterate_for(args.warm_up + args.seconds, call)
    steps_per_call = ENVIRONMENTS * STEPS * ITERATIONS_PER_CALL
    needed = -(-LEARNT_AFTER_STEPS // steps_per_call)
    while len(returns) < needed:
        call()
    report(
        iterations_per_s=rate(marks, args.warm_up) * ITERATIONS_PER_CALL,
        compile_s=compile_s,
        best_mean_return=max(returns[:needed]),
        of_steps=needed * steps_per_call,
    )


if __name__ == "__main__":
    main()
