"""The tests that decisions rest on: valid at every look, additive over panes, exact for counts.

``emix``          likelihood of one stratum's counts, and what the sum over strata says
``ceiling``       what the candidate's own calls exclude where nothing can be compared
``margins``       a margin as a person states it -> the odds ratio that a stratum is tested against
``exceedances``   latency, cost and tokens as counts above an earlier quantile of the baseline
``combination``   several metrics -> one decision, and which metric is to blame
"""
