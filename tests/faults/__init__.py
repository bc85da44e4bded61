"""What happens to a sweep when it is killed, cut short, damaged or starved: every fault ends in `assert_sound`."""

import os

IS_LONG = os.environ.get("TUNER_FAULTS") == "long"  # as `make faults` has it; an hour and a half of it
