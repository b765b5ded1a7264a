import pytest

from tidegate_streams.statistics.margins import SMALLEST_REFERENCE, Line, line, reference_rate


def test_points_are_added_to_the_rate_of_the_baseline_and_percent_are_a_share_of_it():
    assert line("absolute", 0.02) == Line(1.0, 0.02)
    assert line("relative", 0.5) == Line(1.5, 0.0)


def test_a_margin_of_every_point_there_is_leaves_room_for_an_alternative():
    assert 0.99 < line("absolute", 1.0).offset < 1


def test_the_usual_rate_waits_for_a_hundred_units():
    assert reference_rate(SMALLEST_REFERENCE - 1, 3) is None
    assert reference_rate(SMALLEST_REFERENCE, 0) == pytest.approx(1 / 102)
