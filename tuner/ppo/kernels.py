"""Compiled PPO: forward, loss, gradient and Adam of multi-layer perceptrons, on arrays, sizes taken at run time.

One layout everywhere: a row for each unit, a column for each sample, in panels of at most PANEL columns, whole vectors.
Weights are torch's own, (out, in), used where they lie in one flat buffer of parameters.

What each trick brings on PPO_01 (two networks of 64 and 32 units, minibatches of 32), measured by leaving one out
(`benchmarks/tricks.py`); on a Zen 4 a minibatch takes 17 µs:

- Products in tiles whose sums stay in vector registers: 7.9 times.
- Denormals flushed to zero: 1.05 times once Adam's moments have decayed; more on a processor that is slow with them.
- Arrays that begin a cache line: 1.05 times.
- Panels, so that a large minibatch stays in a core's cache; whether of 64 or of 128 columns makes 12 %.

And without a figure: loops run over slices from 0, because an index that may be negative, as far as Numba knows,
keeps a loop from vectorising; nothing is allocated for a minibatch.
"""

from __future__ import annotations

import math

import numpy as np

from tuner.compiled import (
    DOT_COLUMNS,
    DOT_ROWS,
    IS_X86,
    LANES,
    ROWS,
    add_to_row,
    add_to_rows,
    compiled,
    dot_tile,
    flush_denormals,
    restore_denormals,
    row_from_start,
    rows_from_start,
    sum_tile,
)

PANEL = 64

# The columns of a layer table: where weights and bias lie in the parameters, and which rows are read and written.
INPUTS, OUTPUTS, WEIGHT, BIAS, SOURCE, TARGET, ACTIVATION = range(7)
LINEAR, RELU, TANH, SILU = range(4)

# What a minibatch's statistics hold.
POLICY_LOSS, VF_LOSS, VF_LOSS_UNCLIPPED, ENTROPY, KL, EXPLAINED_VARIANCE, TOTAL_LOSS, STATISTICS = range(8)

# How gradients are clipped.
BY_NOTHING, BY_GLOBAL_NORM, BY_NORM, BY_VALUE = range(4)

# What the loss works with, for each output of one sample.
OUTPUT, BY_OUTPUT, LOG_P, P, OLD_P, ENTROPY_OF, WORK = range(7)

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


# ---------------------------------------------------------------------------------------------------------------------
# Random numbers: xoshiro256++ (Blackman and Vigna, 2021), because its state is four integers that a checkpoint holds.


@compiled
def next_bits(state):
    """The next 64 random bits; `state` is four uint64."""
    a, b, c, d = state[0], state[1], state[2], state[3]
    mixed = a + d
    result = ((mixed << np.uint64(23)) | (mixed >> np.uint64(41))) + a
    shifted = b << np.uint64(17)
    c ^= a
    d ^= b
    state[1] = b ^ c
    state[0] = a ^ d
    state[2] = c ^ shifted
    state[3] = (d << np.uint64(45)) | (d >> np.uint64(19))
    return result


@compiled
def uniform(state):
    """A float64 in [0, 1)."""
    return (next_bits(state) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@compiled
def normal(state):
    """A float64 of the standard normal distribution (Box and Muller, 1958)."""
    radius = math.sqrt(-2.0 * math.log(1.0 - uniform(state)))
    return radius * math.cos(2.0 * math.pi * uniform(state))


@compiled
def shuffle(state, order):
    """Permute `order` in place (Fisher and Yates)."""
    for i in range(order.shape[0] - 1, 0, -1):
        j = int(uniform(state) * (i + 1))
        order[i], order[j] = order[j], order[i]


# ---------------------------------------------------------------------------------------------------------------------
# Layers


@compiled
def _tanh(x):
    """tanh to within float32's last digits, as a fraction of polynomials that vectorises (Eigen's `ptanh_float`)."""
    x = min(max(x, np.float32(-7.90531110763549805)), np.float32(7.90531110763549805))
    y = x * x
    p = np.float32(-2.76076847742355e-16)
    p = p * y + np.float32(2.00018790482477e-13)
    p = p * y + np.float32(-8.60467152213735e-11)
    p = p * y + np.float32(5.12229709037114e-08)
    p = p * y + np.float32(1.48572235717979e-05)
    p = p * y + np.float32(6.37261928875436e-04)
    p = p * y + np.float32(4.89352455891786e-03)
    q = np.float32(1.19825839466702e-06)
    q = q * y + np.float32(1.18534705686654e-04)
    q = q * y + np.float32(2.26843463243900e-03)
    q = q * y + np.float32(4.89352518554385e-03)
    return x * p / q


@compiled
def forward(layers, parameters, units, slopes, columns):
    """Fill the rows of every layer from those of its source; `slopes` gets SiLU's derivatives.

    Args:
        layers: (layers, 7) int64, in an order in which sources come first.
        parameters: (parameters,) float32.
        units, slopes: (…,) float32, holding (rows, columns).
        columns: how many; whole vectors of LANES.
    """
    for layer in range(layers.shape[0]):
        inputs, outputs = layers[layer, INPUTS], layers[layer, OUTPUTS]
        weight, bias = layers[layer, WEIGHT], layers[layer, BIAS]
        source, target = layers[layer, SOURCE] * columns, layers[layer, TARGET] * columns
        whole = outputs - outputs % ROWS
        for column in range(0, columns, LANES):
            for unit in range(0, whole, ROWS):
                rows_from_start(
                    units, target + unit * columns + column, columns, parameters, bias + unit,
                    parameters, weight + unit * inputs, inputs, 1, units, source + column, columns, inputs,
                )  # fmt: skip
            for unit in range(whole, outputs):
                row_from_start(
                    units, target + unit * columns + column, columns, parameters, bias + unit,
                    parameters, weight + unit * inputs, inputs, 1, units, source + column, columns, inputs,
                )  # fmt: skip
        end = target + outputs * columns
        _activate(layers[layer, ACTIVATION], units[target:end], slopes[target:end])


@compiled
def _activate(activation, units, slopes):
    one, half = np.float32(1), np.float32(0.5)
    if activation == RELU:
        for i in range(units.shape[0]):
            units[i] = max(units[i], np.float32(0))
    elif activation == TANH:
        for i in range(units.shape[0]):
            units[i] = _tanh(units[i])
    elif activation == SILU:
        for i in range(units.shape[0]):
            x = units[i]
            sigmoid = half + half * _tanh(half * x)
            units[i] = x * sigmoid
            slopes[i] = sigmoid * (one + x * (one - sigmoid))


@compiled
def _activate_back(activation, units, slopes, deltas):
    """Multiply by the activation's derivative, which for all but SiLU follows from its value."""
    if activation == RELU:
        for i in range(units.shape[0]):
            deltas[i] = deltas[i] if units[i] > 0 else np.float32(0)
    elif activation == TANH:
        for i in range(units.shape[0]):
            deltas[i] *= np.float32(1) - units[i] * units[i]
    elif activation == SILU:
        for i in range(units.shape[0]):
            deltas[i] *= slopes[i]


@compiled
def _dot(these, those):
    total = np.float32(0)
    for i in range(these.shape[0]):
        total += these[i] * those[i]
    return total


@compiled
def backward(layers, parameters, gradients, units, slopes, deltas, columns):
    """Add this panel's part to `gradients`; `deltas` holds the loss's derivative by the last layers' rows, else 0.

    Loops run over slices: an index that may be negative to Numba's knowledge keeps a loop from vectorising.
    """
    vectors = columns // LANES
    for layer in range(layers.shape[0] - 1, -1, -1):
        inputs, outputs = layers[layer, INPUTS], layers[layer, OUTPUTS]
        weight, bias = layers[layer, WEIGHT], layers[layer, BIAS]
        source, target = layers[layer, SOURCE] * columns, layers[layer, TARGET] * columns
        end = target + outputs * columns
        _activate_back(layers[layer, ACTIVATION], units[target:end], slopes[target:end], deltas[target:end])
        whole = outputs - outputs % LANES
        for unit in range(0, whole, LANES):
            sum_tile(gradients, bias + unit, deltas, target + unit * columns, columns, vectors)
        for unit in range(whole, outputs):
            gradients[bias + unit] += np.sum(deltas[target + unit * columns : target + (unit + 1) * columns])
        _add_outer(gradients, weight, inputs, outputs, deltas, target, units, source, columns)
        if source == 0:  # the observations' own derivative is nobody's
            continue
        whole = inputs - inputs % ROWS
        for column in range(0, columns, LANES):
            for unit in range(0, whole, ROWS):
                add_to_rows(
                    deltas, source + unit * columns + column, columns, parameters, 0,
                    parameters, weight + unit, 1, inputs, deltas, target + column, columns, outputs,
                )  # fmt: skip
            for unit in range(whole, inputs):
                add_to_row(
                    deltas, source + unit * columns + column, columns, parameters, 0,
                    parameters, weight + unit, 1, inputs, deltas, target + column, columns, outputs,
                )  # fmt: skip


@compiled
def _add_outer(gradients, weight, inputs, outputs, deltas, target, units, source, columns):
    """`gradients[o, i] += sum(deltas[o, s] * units[i, s])` over the panel's columns."""
    whole_outputs, whole_inputs = outputs - outputs % DOT_ROWS, inputs - inputs % DOT_COLUMNS
    for output in range(0, whole_outputs, DOT_ROWS):
        for input_ in range(0, whole_inputs, DOT_COLUMNS):
            dot_tile(
                gradients, weight + output * inputs + input_, inputs, deltas, target + output * columns,
                units, source + input_ * columns, columns, columns // LANES,
            )  # fmt: skip
    for output in range(outputs):
        for input_ in range(whole_inputs if output < whole_outputs else 0, inputs):
            left, right = target + output * columns, source + input_ * columns
            gradients[weight + output * inputs + input_] += _dot(
                deltas[left : left + columns], units[right : right + columns]
            )


@compiled
def columns_for(samples):
    """The columns of a panel that holds `samples`: whole vectors."""
    return -(-samples // LANES) * LANES


# ---------------------------------------------------------------------------------------------------------------------
# Acting


@compiled
def act(layers, parameters, scratch, choices, log_std_limit, observations, random, actions, logps, inputs):
    """Sample an action for each observation.

    Args:
        choices: (dimensions,) int64, the number of actions in each dimension; of length 0 for a diagonal Gaussian.
        log_std_limit: the Gaussian's log standard deviations are clipped to ± this.
        observations: (environments, features) float32.
        random: (4,) uint64, the generator's state.
        actions: (environments, dimensions) float32, written.
        logps: (environments,) float32, written: the log probabilities of the actions.
        inputs: (environments, outputs) float32, written: the parameters of the distributions.
    """
    environments, features = observations.shape
    head = layers[-1, TARGET]
    units, slopes, columns = scratch[0], scratch[1], columns_for(environments)
    for environment in range(environments):
        for feature in range(features):
            units[feature * columns + environment] = observations[environment, feature]
    forward(layers, parameters, units, slopes, columns)
    for environment in range(environments):
        for output in range(inputs.shape[1]):
            inputs[environment, output] = units[(head + output) * columns + environment]
        logp = 0.0
        if choices.shape[0] == 0:
            dimensions = actions.shape[1]
            for dimension in range(dimensions):
                log_std = min(max(inputs[environment, dimensions + dimension], -log_std_limit), log_std_limit)
                inputs[environment, dimensions + dimension] = log_std
                noise = normal(random)
                actions[environment, dimension] = inputs[environment, dimension] + math.exp(log_std) * noise
                logp -= 0.5 * noise * noise + log_std + LOG_SQRT_2PI
        else:
            start = 0
            for dimension in range(choices.shape[0]):
                end = start + choices[dimension]
                largest = inputs[environment, start]
                for output in range(start + 1, end):
                    largest = max(largest, inputs[environment, output])
                total = 0.0
                for output in range(start, end):
                    total += math.exp(inputs[environment, output] - largest)
                left = uniform(random) * total
                action = 0
                while action < end - start - 1:
                    left -= math.exp(inputs[environment, start + action] - largest)
                    if left < 0:
                        break
                    action += 1
                actions[environment, dimension] = action
                logp += inputs[environment, start + action] - largest - math.log(total)
                start = end
        logps[environment] = logp


@compiled
def values_of(layers, parameters, scratch, observations, rows, values):
    """The value of `observations[rows[i]]` into `values[i]`, panel by panel."""
    head = layers[-1, TARGET]
    units, slopes = scratch[0], scratch[1]
    for start in range(0, rows.shape[0], PANEL):
        samples = min(PANEL, rows.shape[0] - start)
        columns = columns_for(samples)
        for sample in range(samples):
            for feature in range(observations.shape[1]):
                units[feature * columns + sample] = observations[rows[start + sample], feature]
        forward(layers, parameters, units, slopes, columns)
        for sample in range(samples):
            values[start + sample] = units[head * columns + sample]


# ---------------------------------------------------------------------------------------------------------------------
# Advantages


@compiled
def advantages_of(values, rewards, terminateds, truncateds, gamma, lambda_, advantages, targets):
    """Generalised advantages, standardised, and value targets, as RLlib's GeneralAdvantageEstimation has them.

    All arrays are (rows,): episode chunks one after another, each with its last observation as one more row, whose
    reward is 0 and whose flags are False. RLlib computes an advantage for these rows, too, and standardises over them;
    the loss leaves them out.

    Source: Schulman et al., 2016, equation 16; RLlib's `compute_value_targets`.
    """
    running = 0.0
    for row in range(values.shape[0] - 1, -1, -1):
        following = float(values[row + 1]) if row + 1 < values.shape[0] else 0.0
        goes_on = 0.0 if terminateds[row] else 1.0
        propagates = 0.0 if truncateds[row] else goes_on
        delta = rewards[row] + gamma * goes_on * following - values[row]
        running = delta + gamma * lambda_ * propagates * running
        targets[row] = np.float32(running) + values[row]
        advantages[row] = targets[row] - values[row]
    mean = 0.0
    for row in range(values.shape[0]):
        mean += advantages[row]
    mean /= values.shape[0]
    square = 0.0
    for row in range(values.shape[0]):
        square += (advantages[row] - mean) ** 2
    deviation = max(1e-4, math.sqrt(square / values.shape[0]))
    for row in range(values.shape[0]):
        advantages[row] = (advantages[row] - mean) / deviation


# ---------------------------------------------------------------------------------------------------------------------
# The loss


@compiled
def _loss(
    choices, log_std_limit, units, deltas, policy, value, columns, samples, picked, weights,
    actions, logps, inputs, advantages, targets,
    clip_param, vf_clip_param, vf_loss_coeff, entropy_coeff, kl_coeff, work, sums,
):  # fmt: skip
    """Write the PPO loss's derivative by the heads' outputs into `deltas` and add the panel's statistics to `sums`.

    A sample's outputs start at `units[policy + sample]` and are `columns` apart; its value is `units[value + sample]`.

    Source: Schulman et al., 2017, equations 7 and 9; RLlib's `PPOTorchLearner.compute_loss_for_module`.
    """
    count = inputs.shape[1]
    for sample in range(samples):
        row, weight = picked[sample], weights[sample]
        for output in range(count):
            work[OUTPUT, output] = units[policy + output * columns + sample]
        if choices.shape[0]:
            logp, entropy, kl = _categorical(choices, actions, inputs, row, kl_coeff >= 0, work)
        else:
            logp, entropy, kl = _gaussian(log_std_limit, actions, inputs, row, work)
        # The surrogate: its derivative is 0 where the clipped ratio is the smaller of the two.
        ratio, advantage = math.exp(np.float32(logp - logps[row])), advantages[sample]
        clipped = min(max(ratio, 1 - clip_param), 1 + clip_param)
        surrogate = min(advantage * ratio, advantage * clipped)
        by_logp = -weight * advantage * ratio if clipped == ratio or advantage * ratio < advantage * clipped else 0.0
        by_entropy, by_kl = -weight * entropy_coeff, weight * max(kl_coeff, 0.0)
        if choices.shape[0]:
            _categorical_back(choices, actions, row, by_logp, by_entropy, by_kl, work)
        else:
            _gaussian_back(log_std_limit, actions, inputs, row, by_logp, by_entropy, by_kl, work)
        for output in range(count):
            deltas[policy + output * columns + sample] = work[BY_OUTPUT, output]
        # The value loss: its derivative is 0 where it is clipped.
        error = units[value + sample] - targets[sample]
        vf_loss = error * error
        deltas[value + sample] = weight * vf_loss_coeff * 2 * error if vf_loss <= vf_clip_param else 0.0
        sums[POLICY_LOSS] -= weight * surrogate
        sums[VF_LOSS] += weight * min(vf_loss, vf_clip_param)
        sums[VF_LOSS_UNCLIPPED] += weight * vf_loss
        sums[ENTROPY] += weight * entropy
        sums[KL] += weight * kl


@compiled
def _categorical(choices, actions, inputs, row, has_kl, work):
    """Log probability of the actions, entropy, and KL divergence from the old distribution, of one sample.

    Leaves each output's log probability and probability, the old probability, and each dimension's entropy.
    """
    logp = entropy = kl = 0.0
    start = 0
    for dimension in range(choices.shape[0]):
        end = start + choices[dimension]
        largest, old_largest = work[OUTPUT, start], inputs[row, start]
        for output in range(start + 1, end):
            largest = max(largest, work[OUTPUT, output])
            old_largest = max(old_largest, inputs[row, output])
        total = old_total = 0.0
        for output in range(start, end):
            work[P, output] = math.exp(work[OUTPUT, output] - largest)
            total += work[P, output]
            if has_kl:
                work[OLD_P, output] = math.exp(inputs[row, output] - old_largest)
                old_total += work[OLD_P, output]
        norm, mine = largest + math.log(total), 0.0
        old_norm = old_largest + math.log(old_total) if has_kl else 0.0
        for output in range(start, end):
            log_p = work[OUTPUT, output] - norm
            work[LOG_P, output] = log_p
            work[P, output] /= total
            mine -= work[P, output] * log_p
            if has_kl:
                work[OLD_P, output] /= old_total
                kl += work[OLD_P, output] * (inputs[row, output] - old_norm - log_p)
        work[ENTROPY_OF, dimension] = mine
        entropy += mine
        logp += work[LOG_P, start + int(actions[row, dimension])]
        start = end
    return logp, entropy, kl


@compiled
def _categorical_back(choices, actions, row, by_logp, by_entropy, by_kl, work):
    """From the loss's derivatives by log probability, entropy and KL to those by the outputs."""
    start = 0
    for dimension in range(choices.shape[0]):
        end, taken = start + choices[dimension], start + int(actions[row, dimension])
        for output in range(start, end):
            p = work[P, output]
            delta = by_logp * ((1.0 if output == taken else 0.0) - p) + by_kl * (p - work[OLD_P, output])
            work[BY_OUTPUT, output] = delta - by_entropy * p * (work[LOG_P, output] + work[ENTROPY_OF, dimension])
        start = end


@compiled
def _gaussian(log_std_limit, actions, inputs, row, work):
    """Log probability of the actions, entropy, and KL divergence from the old distribution, of one sample."""
    logp = entropy = kl = 0.0
    dimensions = actions.shape[1]
    for dimension in range(dimensions):
        mean, raw = work[OUTPUT, dimension], work[OUTPUT, dimensions + dimension]
        log_std, old_log_std = min(max(raw, -log_std_limit), log_std_limit), inputs[row, dimensions + dimension]
        inverse = math.exp(-log_std)
        z, apart = (actions[row, dimension] - mean) * inverse, (inputs[row, dimension] - mean) * inverse
        logp -= 0.5 * z * z + log_std + LOG_SQRT_2PI
        entropy += 0.5 + LOG_SQRT_2PI + log_std
        kl += log_std - old_log_std + 0.5 * (math.exp(2 * (old_log_std - log_std)) + apart * apart - 1)
    return logp, entropy, kl


@compiled
def _gaussian_back(log_std_limit, actions, inputs, row, by_logp, by_entropy, by_kl, work):
    """From the loss's derivatives by log probability, entropy and KL to those by the outputs."""
    dimensions = actions.shape[1]
    for dimension in range(dimensions):
        mean, raw = work[OUTPUT, dimension], work[OUTPUT, dimensions + dimension]
        log_std = min(max(raw, -log_std_limit), log_std_limit)
        inverse = math.exp(-log_std)
        z, apart = (actions[row, dimension] - mean) * inverse, (inputs[row, dimension] - mean) * inverse
        spread = math.exp(2 * (inputs[row, dimensions + dimension] - log_std)) + apart * apart
        work[BY_OUTPUT, dimension] = (by_logp * z - by_kl * apart) * inverse
        by_log_std = by_logp * (z * z - 1) + by_entropy + by_kl * (1 - spread)
        work[BY_OUTPUT, dimensions + dimension] = by_log_std if log_std == raw else 0.0


@compiled
def _explained_variance(rows, targets, errors):
    """1 - var(errors) / var(targets), at least -1, over a minibatch, as RLlib's `explained_variance`."""
    count = rows.shape[0]
    mean = error_mean = 0.0
    for i in range(count):
        mean += targets[rows[i]] / count
        error_mean += errors[i] / count
    variance = error_variance = 0.0
    for i in range(count):
        variance += (targets[rows[i]] - mean) ** 2
        error_variance += (errors[i] - error_mean) ** 2
    degrees = max(count - 1, 1)
    return max(-1.0, 1.0 - (error_variance / degrees) / (variance / degrees + 1e-6))


# ---------------------------------------------------------------------------------------------------------------------
# The update


@compiled
def clip_gradients(gradients, tensors, how, limit):
    """Clip in place as RLlib's `clip_gradients`; `tensors` are (start, end) of each."""
    total = 0.0
    for tensor in range(tensors.shape[0]):
        square = np.float32(0)
        for i in range(tensors[tensor, 0], tensors[tensor, 1]):
            square += gradients[i] * gradients[i]
        total += square
        if how == BY_NORM and math.sqrt(square) > limit:
            factor = np.float32(limit / math.sqrt(square))
            for i in range(tensors[tensor, 0], tensors[tensor, 1]):
                gradients[i] *= factor
    norm = math.sqrt(total)
    if how == BY_GLOBAL_NORM and norm + 1e-6 > limit:
        factor = np.float32(limit / (norm + 1e-6))
        for i in range(gradients.shape[0]):
            gradients[i] *= factor
    elif how == BY_VALUE:
        for i in range(gradients.shape[0]):
            gradients[i] = min(max(gradients[i], np.float32(-limit)), np.float32(limit))


@compiled
def adam(parameters, gradients, first, second, step, lr, beta1, beta2, eps):
    """One step of Adam in place, as torch.optim.Adam (Kingma and Ba, 2015, algorithm 1)."""
    step_size = np.float32(lr / (1 - beta1**step))
    root = np.float32(1 / math.sqrt(1 - beta2**step))
    keep1, keep2, eps = np.float32(beta1), np.float32(beta2), np.float32(eps)
    add1, add2 = np.float32(1 - beta1), np.float32(1 - beta2)
    for i in range(parameters.shape[0]):
        gradient = gradients[i]
        m = keep1 * first[i] + add1 * gradient
        v = keep2 * second[i] + add2 * gradient * gradient
        if not IS_X86 and abs(m) < np.float32(1e-36):  # where denormals are not flushed
            m = np.float32(0)
        first[i], second[i] = m, v
        parameters[i] -= step_size * m / (np.sqrt(v) * root + eps)


@compiled
def is_finite(bits):
    """Whether float32 numbers, given as their uint32 bits, are all finite: integers, so that no flag can undo it."""
    found = np.uint32(0)
    for i in range(bits.shape[0]):
        found |= np.uint32((bits[i] & np.uint32(0x7F800000)) == np.uint32(0x7F800000))
    return found == 0


@compiled
def update(
    layers, tensors, heads, parameters, first, second, step, gradients, scratch, choices, log_std_limit,
    observations, rows, actions, logps, inputs, is_real, advantages, targets,
    num_epochs, minibatch_size, shuffles, random,
    lr, beta1, beta2, eps, clip_by, grad_clip,
    clip_param, vf_clip_param, vf_loss_coeff, entropy_coeff, kl_coeff, statistics,
):  # fmt: skip
    """PPO's epochs over one batch; returns Adam's step count, and leaves the last minibatch's statistics.

    Minibatches are RLlib's MiniBatchCyclicIterator's: none is partial, the first epoch goes through the batch in its
    order, and when the batch is used up it is shuffled and gone on with.

    Args:
        layers: (layers, 7) int64, for `forward`.
        tensors: (tensors, 2) int64, where each parameter tensor starts and ends.
        heads: (2,) int64, the rows of the policy's first output and of the value.
        parameters, first, second, gradients: (parameters,) float32; Adam's moments are `first` and `second`.
        scratch: (3, size) float32, room for three panels of all rows.
        observations: (slots, features) float32; row i of the batch is at `rows[i]`.
        actions, logps, inputs: (slots, …), as `act` wrote them, likewise.
        is_real: (rows,) bool, False for the row that ends an episode's chunk: the loss leaves it out.
        advantages, targets: (rows,) float32.
        kl_coeff: negative for no KL loss at all.
        statistics: (STATISTICS,) float64, written.
    """
    before = flush_denormals()
    size, height = rows.shape[0], layers[-1, TARGET] + layers[-1, OUTPUTS]
    units, slopes, deltas = scratch[0], scratch[1], scratch[2]
    order = np.arange(size)
    picked, slots = np.empty(minibatch_size, np.int64), np.empty(PANEL, np.int64)
    errors, weights = np.empty(minibatch_size, np.float64), np.empty(PANEL, np.float64)
    batch_advantages, batch_targets = np.empty(PANEL, np.float32), np.empty(PANEL, np.float32)
    work = np.zeros((WORK, inputs.shape[1]), np.float32)
    position = epochs = 0
    while epochs < num_epochs:
        real = 0
        for sample in range(minibatch_size):
            picked[sample] = order[position]
            real += is_real[order[position]]
            position += 1
            if position == size:
                position = 0
                epochs += 1
                if shuffles:
                    shuffle(random, order)
        statistics[:] = 0
        gradients[:] = 0
        for start in range(0, minibatch_size, PANEL):
            samples = min(PANEL, minibatch_size - start)
            columns = columns_for(samples)
            for column in range(columns):
                row = picked[start + min(column, samples - 1)]
                slots[column] = rows[row]
                weights[column] = 1 / real if is_real[row] else 0.0
                batch_advantages[column], batch_targets[column] = advantages[row], targets[row]
                for feature in range(observations.shape[1]):
                    units[feature * columns + column] = observations[rows[row], feature]
            forward(layers, parameters, units, slopes, columns)
            deltas[: height * columns] = 0
            _loss(
                choices, log_std_limit, units, deltas, heads[0] * columns, heads[1] * columns, columns, samples,
                slots, weights, actions, logps, inputs, batch_advantages, batch_targets,
                clip_param, vf_clip_param, vf_loss_coeff, entropy_coeff, kl_coeff, work, statistics,
            )  # fmt: skip
            for column in range(samples):
                errors[start + column] = batch_targets[column] - units[heads[1] * columns + column]
            backward(layers, parameters, gradients, units, slopes, deltas, columns)
        if clip_by:
            clip_gradients(gradients, tensors, clip_by, grad_clip)
        step += 1
        adam(parameters, gradients, first, second, step, lr, beta1, beta2, eps)
    statistics[EXPLAINED_VARIANCE] = _explained_variance(picked, targets, errors)
    statistics[TOTAL_LOSS] = (
        statistics[POLICY_LOSS]
        + vf_loss_coeff * statistics[VF_LOSS]
        - entropy_coeff * statistics[ENTROPY]
        + max(kl_coeff, 0.0) * statistics[KL]
    )
    restore_denormals(before)
    return step
