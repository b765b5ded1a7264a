"""Rollouts: what the strata of a deployment say, and what is done about it.

``strata``      merged release rows -> counts and histograms per stratum and variant
``reference``   the baseline of the past hour, which thresholds and margins are taken from
``verdicts``    strata -> evidence per metric -> pass, fail, inconclusive, error or skipped
``words``       the same in sentences
``machine``     specification, actions and looks -> state and commands; its table is data
``state``       what the machine remembers
``outputs``     the records that it writes

All of it is pure: data in, data out, no clock.
"""
