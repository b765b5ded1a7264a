"""The tests that decisions rest on: valid at every look, additive over panes, exact for counts.

``emix``          odds: likelihood of one stratum's counts, and what the sum over strata says
``excess``        points and percent: the candidate's rate against a line over the baseline's
``margins``       a margin in points or percent as a person states it -> that line
``exceedances``   latency, cost and tokens as counts above an earlier quantile of the baseline
``combination``   several metrics -> one decision, and which metric is to blame
``intervals``     how much worse, with bounds at every look, in the unit of the margin
``means``         how much more on average, for reports: right in the limit only
``sample_ratio``  units assigned -> did the variants get the shares that were asked for
``e_detector``    has a rate changed, and since when: with a stated time between false alarms
``distances``     how far apart two histograms or mixes are, and whether chance lets them be
``dependence``    how much alike the calls of a unit are, and evidence that allows for it
``forecast``      how many more calls until a decision, and whether a policy can decide at all
"""
