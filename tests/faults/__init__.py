"""What happens to a sweep when it is killed, cut short, damaged or starved: every fault ends in `assert_sound`."""
