"""The pictures of a report: which there are, that they show something, and that they are the same every time."""

from __future__ import annotations

import sys
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from matplotlib.image import imread

from evaluation.sample_report import every_report, not_working, subject, unmeasured, with_lora, working
from trimtab.errors import MissingDependencyError, OutputError
from trimtab.evaluation.records import Placing
from trimtab.evaluation.report import write_pictures

GREEN, PINK = (0x00, 0x91, 0x69), (0xCE, 0x2C, 0x5C)


def coloured(path, colour) -> int:
    """How many pixels have exactly that colour."""
    pixels = np.round(imread(BytesIO(path.read_bytes()))[..., :3] * 255).astype(int)
    return int((pixels == colour).all(axis=-1).sum())


def test_there_is_a_picture_of_the_dial_of_the_comparison_and_of_the_layers(tmp_path):
    written = write_pictures(with_lora(), tmp_path / "new")
    assert [path.name for path in written] == ["sweep.png", "comparison.png", "layers.png"]
    assert sorted(written) == sorted((tmp_path / "new").iterdir())
    for path in written:
        assert coloured(path, GREEN) > 100, path
    assert coloured(written[0], PINK) > 100


def test_without_layers_that_were_tried_there_is_no_picture_of_them(tmp_path):
    written = write_pictures(unmeasured(), tmp_path)
    assert [path.name for path in written] == ["sweep.png", "comparison.png"]


@pytest.mark.parametrize("name", ["does not work", "one way", "not measured"])
def test_every_kind_of_report_can_be_drawn(name, tmp_path):
    assert len(write_pictures(every_report()[name], tmp_path)) >= 2


def test_the_same_report_gives_the_same_bytes(tmp_path):
    first, second = (write_pictures(not_working(), tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_names_are_not_taken_for_formulas_and_may_be_of_any_script(tmp_path):
    odd = subject(vector="$x_", model="a$b", positive="$\\frac{$ 快乐", candidates=(Placing((1,), float("nan")),))
    report = working(subject=odd, methods=(replace(working().methods[0], name="_$y"),))
    assert len(write_pictures(report, tmp_path)) == 3


def test_without_matplotlib_the_line_that_installs_it_is_given(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "trimtab\[evaluate\]"'):
        write_pictures(working(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_pictures(working(), tmp_path / "file" / "below")
