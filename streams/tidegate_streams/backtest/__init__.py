"""What a rollout would have done: the cores of both stages over events of the past, without Kafka.

``files``     JSON lines, Parquet and Avro, in pieces
``log``       what Kafka's topics still hold
``store``     what the store holds
``fitting``   tables that others wrote -> the contract's columns, and what is no event, by reason
``tally``     events -> partials of one deployment, as stage 1 makes them
``drive``     partials -> a journal in the order of event time -> what stage 2 decides
``outcome``   the decision, when it fell and why
``picture``   e-values and intervals over time
"""
