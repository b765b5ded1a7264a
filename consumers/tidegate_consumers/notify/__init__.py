"""Alerts and deployment commands, told to people and scripts: a signed webhook, at least once.

``message``   a record -> what is posted: id, type, body
``address``   where it may be posted
``delivery``  one attempt, and what became of it
``schedule``  when again, and when no more
``offsets``   how far a partition is done when its records are done in any order
``source``    the consumer that reads on while records wait
``figures``   what is measured
``process``   all of it, at work
"""
