"""The pictures of the benchmark of decisions: what stands beside what, and files that are no results."""

import json
import sys
from dataclasses import asdict

import pytest
from benchmarks.decisions import pictures
from benchmarks.decisions.figures import Figure

SHARE = ("share", 0.01, 0.0, 0.02)
RATE = "A/A, rate 1%, 50 %"
FIGURES = [
    Figure("G2", f"{RATE}, alpha 5%", "tidegate", *SHARE, 0.05, True),
    Figure("G2", f"{RATE}, alpha 1%", "tidegate", *SHARE, 0.01, True),
    Figure("G2", RATE, "1.5 times in a minute", *SHARE),
    Figure("G5", "A/A, 50 %, alpha 1%", "Kayenta", *SHARE),
    Figure("G5", "all x1.2, 50 %", "Kayenta", "requests", 6_240.0, 6_008.0, 6_472.0),
    Figure("race", "nothing changed, 50 %: promoted", "tidegate", *SHARE),
    Figure("race", "nothing changed, 50 %: rolled back", "any z above 1.64", *SHARE),
    Figure("race", "nothing changed, 50 %: until promoted", "tidegate", "requests", 9.0, 8.0, 10.0),
]


def test_rules_stand_in_one_row_where_the_case_is_the_same_and_shares_apart_from_requests():
    shown = {
        picture.name: [(row, series) for panel in picture.panels for row, series, _ in panel.points]
        for picture in pictures.pictures(FIGURES)
    }
    assert shown == {
        "false-rollbacks": [
            ("rate 1%, 50 %", "tidegate"),
            ("rate 1%, 50 %", "1.5 times in a minute"),
            ("50 %", "Kayenta"),
        ],
        "requests": [("all x1.2, 50 %", "Kayenta")],
        "races": [
            ("nothing changed, 50 %", "tidegate, promoted"),
            ("nothing changed, 50 %", "any z above 1.64, rolled back"),
        ],
    }
    assert all(series in pictures.STYLES for points in shown.values() for _, series in points)


def test_what_the_benchmark_saves_is_read_back_as_it_was(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"runs": 1, "seed": 1, "figures": [asdict(figure) for figure in FIGURES]}))
    assert pictures.saved(path) == FIGURES


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        (None, "cannot be read: No such file"),
        ("[]", "is not what the benchmark of decisions saves"),
        ('{"figures": [{"goal": "G1"}]}', "is not what the benchmark of decisions saves"),
        ('{"figures": []}', "has nothing to draw"),
    ],
)
def test_a_file_that_is_no_result_ends_with_one_complaint_and_no_picture(
    tmp_path, monkeypatch, capsys, written, complaint
):
    path, directory = tmp_path / "results.json", tmp_path / "pictures"
    if written is not None:
        path.write_text(written)
    monkeypatch.setattr(pictures, "library", lambda: None)
    monkeypatch.setattr(sys, "argv", ["pictures", str(path), str(directory)])
    with pytest.raises(SystemExit, match="2"):
        pictures.main()
    assert f"{path} {complaint}" in capsys.readouterr().err
    assert not directory.exists()
