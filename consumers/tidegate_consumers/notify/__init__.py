"""Alerts and commands, told to people and programs: by channels, at least once, each alert in order.

``file``         what operators write -> channels
``channel``      a receiver: where, as whom, and what it wants to be told
``kinds``        for each kind of receivers, from a parcel to requests
``notice``       a parcel in words, for people
``message``      a record as a webhook's body: id, type, fields
``address``      where something may be sent
``delivery``     one attempt by HTTP, and what became of it; ``mailbox`` the same by SMTP
``courier``      attempt after attempt, on the ``schedule``
``grouping``     a flood -> a few parcels
``standing``     which alerts fire, as far as a channel has read
``runbook``      where its page stands
``silences``     what nobody is told of for a while
``source``       the consumer that reads on while records wait, and their ``offsets``
``writer``       dead letters, and alerts about channels that are ``unreachable``
``notifier``     one channel at work
``process``      all channels, and their file read again
``command``      ``tidegate alert``, with a ``trial`` of a channel
``figures``      what is measured
"""
