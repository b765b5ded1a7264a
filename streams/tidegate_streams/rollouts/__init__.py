"""Rollouts: what the strata of a deployment say, and what is done about it.

``strata``        merged release rows -> counts and histograms per stratum and variant
``ripening``      when ratings are compared, and with which
``split``         whether users fell to the variants as they were asked to
``silence``       metrics that are measured no longer, or never well
``reference``     the past hour of each variant, which thresholds and margins are taken from
``variants``      what is compared with what, at which shares and alphas
``filters``       which calls may decide
``tolerance``     margins of single steps
``comparing``     strata -> evidence per metric
``gathering``     strata -> all that is remembered of them
``verdicts``      evidence -> pass, fail, inconclusive, error or skipped
``transitions``   the table: (state, event) -> state and command
``soundness``     which specifications cannot run
``strategies``    canary, blue-green and others: what they ask of steps, and what ends them
``admission``     which cannot decide in their time
``machine``       specification, actions and looks -> next state and records
``findings``      the event that a look calls for
``following``     what an event leads to
``actions``       what people ask for
``freezes``       the times in which nothing advances
``outputs``       the records: commands, progress, alerts, refusals
``evidence``      what each metric says of each candidate, for all of them
``reasons``, ``refusals``, ``words``   the same in sentences
``state``         what is remembered of a deployment

All of it is pure: data in, data out, no clock.
"""
