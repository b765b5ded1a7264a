"""Verdicts on data that other people have recorded, against what is known of it.

``judging``   observations of two variants -> the verdict of the rollout machine
``cases``     the recorded data, what is compared, and what is known of it
``kayenta``   the judge of Kayenta, and the cases of its own tests
``argo``      the cases of Argo's tests
``report``    tables of all of it
"""
