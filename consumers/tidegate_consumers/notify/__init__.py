"""Alerts and deployment commands, told to people and scripts: a signed webhook, at least once.

``message`` turns a record into what is posted, ``address`` decides where it may be posted, ``delivery`` posts it
once, ``schedule`` says when again and when no more, and ``process`` puts them around a consumer that commits an
offset only when its record was delivered or dead-lettered.
"""
