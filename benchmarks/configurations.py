"""What every side of a comparison trains: the eight fixed configurations of the sweep. Data alone."""

from __future__ import annotations

PARALLEL = 2
_COLUMNS = {
    "batch": (128, 256, 256, 512, 128, 512, 128, 256),
    "minibatch": (32, 64, 64, 128, 64, 64, 32, 32),
    "epochs": (6, 8, 10, 8, 6, 10, 4, 10),
    "lr": (5e-4, 1e-3, 2e-3, 3e-3, 1e-3, 7e-4, 2e-3, 3e-4),
}
# Everything else is PPO_01's, which each peer spells out in its own words.
SWEEP = [dict(zip(_COLUMNS, row, strict=True)) for row in zip(*_COLUMNS.values(), strict=True)]
