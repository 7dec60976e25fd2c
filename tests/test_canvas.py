"""The canvas's Python side: strokes and pictures become images like those of MNIST, and no front end is no error."""

from __future__ import annotations

import json
import sys
import types

import matplotlib.image
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from labdiff import canvas
from labdiff.canvas import DEFAULT, from_drawing, from_strokes, scribble
from labdiff.data import digits, offline_digits
from labdiff.errors import DrawingError

SEVEN = [[[60, 60], [200, 60], [110, 230]]]


def middle_of(image):
    """The centre of mass of the ink, down and across, in pixels."""
    ink, axis = (image[0, 0] + 1) / 2, torch.arange(28.0)
    return [((ink.sum(axes) * axis).sum() / ink.sum()).item() for axes in (1, 0)]


def box_of(image, least=0.0):
    """How many pixels high and wide the ink is."""
    ink = image[0, 0] > 2 * least - 1
    return [int(found[-1] - found[0]) + 1 for found in (ink.any(axis).nonzero().flatten() for axis in (1, 0))]


def is_like_mnist(image):
    assert image.shape == (1, 1, 28, 28)
    assert image.dtype == torch.float32
    assert image.amin() == -1
    assert 0.9 < image.amax() <= 1
    assert max(box_of(image, 0.05)) in (19, 20)
    assert middle_of(image) == pytest.approx([14, 14], abs=0.6)


@pytest.fixture
def large():
    """A digit on 120 by 150 pixels, off the middle, ink from 0 to 1."""
    digit = (offline_digits()[0][3] + 1) / 2  # (1, 28, 28)
    return F.pad(F.interpolate(digit[None], size=(84, 84), mode="bilinear")[0, 0], (6, 60, 30, 6))


# --- strokes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("strokes", [DEFAULT, SEVEN, [[(0, 0), (0, 5)], [(3, 0), (3, 5)]]])
def test_strokes_are_drawn_as_mnist_is(strokes):
    is_like_mnist(from_strokes(strokes))


def test_neither_the_unit_nor_the_place_of_strokes_matters():
    moved = [[[x / 280 - 5, y / 280 + 9] for x, y in stroke] for stroke in SEVEN]
    torch.testing.assert_close(from_strokes(moved), from_strokes(SEVEN), rtol=0, atol=1e-6)


def test_a_dot_and_a_line_are_drawings_too():
    assert max(box_of(from_strokes([[(7, 3)]]))) < 5
    high, wide = box_of(from_strokes([[(1, 0), (1, 9)]]))
    assert (high, wide < 5) == (20, True)


def test_strokes_that_lean_to_one_side_stay_whole():
    comb = [[(0, i), (1, i)] for i in range(10)] * 3 + [[(0, 9), (30, 9)]]
    assert max(box_of(from_strokes(comb))) == 20


@pytest.mark.parametrize("strokes", [[], [[]], (), [[], []]])
def test_no_stroke_is_an_empty_drawing(strokes):
    with pytest.raises(DrawingError, match="The drawing is empty"):
        from_strokes(strokes)


@pytest.mark.parametrize("strokes", [None, 3, [3], [[3]], [[(1, 2, 3)]], [[("a", "b")]], [[(float("nan"), 1)]], "12"])
def test_what_is_no_stroke_is_said_to_be_none(strokes):
    with pytest.raises(DrawingError, match="Strokes are a list of strokes"):
        from_strokes(strokes)


# --- pictures ---------------------------------------------------------------------------------


@pytest.mark.mnist
def test_a_digit_of_mnist_comes_back_as_it_is():
    for digit in digits(50, train=False)[0]:
        torch.testing.assert_close(from_drawing(digit), digit[None], rtol=0, atol=0.01)


def test_a_large_drawing_is_made_as_mnist_was(large):
    is_like_mnist(from_drawing(large))


def test_range_and_polarity_and_kind_of_array_do_not_matter(large):
    wanted = from_drawing(large)
    as_bytes = (large * 255).round().byte()
    same = {
        "0 to 255": as_bytes.numpy(),
        "-1 to 1": 2 * large - 1,
        "dark on bright": 1 - large,
        "grey on grey": 90 - 40 * large.numpy(),
        "a nested list": large.tolist(),
        "leading axes": large[None, None],
        "colours last": large.numpy()[..., None].repeat(3, -1),
        "colours first": large.expand(3, -1, -1),
        "half precision": large.half(),
    }
    for name, drawing in same.items():
        assert (from_drawing(drawing) - wanted).abs().max() < 0.03, name


@pytest.mark.parametrize("ink", [0, 255])
def test_what_is_transparent_is_paper(large, ink):
    pixels = np.full((*large.shape, 4), ink, np.uint8)
    pixels[..., 3] = (large * 255).round()
    assert (from_drawing(pixels) - from_drawing(large)).abs().max() < 0.03


@pytest.mark.parametrize("ending, most", [("png", 0.03), ("jpg", 0.3)])
def test_a_file_serves_as_well(large, tmp_path, ending, most):
    file = tmp_path / f"mine.{ending}"
    matplotlib.image.imsave(file, 1 - large.numpy(), cmap="gray", vmin=0, vmax=1)
    for path in (file, str(file)):
        assert (from_drawing(path) - from_drawing(large)).abs().max() < most


def test_a_photograph_is_turned_the_way_it_was_taken(large, tmp_path):
    file = tmp_path / "photograph.png"
    on_its_side = Image.fromarray((255 * (1 - large.rot90(1))).byte().numpy())
    exif = on_its_side.getexif()
    exif[0x0112] = 6  # "turn this a quarter to the right"
    on_its_side.save(file, exif=exif)
    assert (from_drawing(file) - from_drawing(large)).abs().max() < 0.05


def test_a_thin_pen_is_thickened():
    pixels = np.zeros((400, 300))
    pixels[40:360, 150] = 1
    is_like_mnist(image := from_drawing(pixels))
    assert ((image + 1) / 2).sum() > 30


def test_from_drawing_changes_nothing_that_it_is_given(large):
    before = large.clone()
    from_drawing(large)
    assert torch.equal(large, before)


@pytest.mark.parametrize(
    "drawing, message",
    [
        (None, "no array can be made of None"),
        ({"a": 1}, "no array can be made of"),
        ([[1, 2], [3]], "no array can be made of"),
        (np.zeros((5, 9, 9)), r"this one has \(5, 9, 9\)"),
        (torch.zeros(2, 1, 28, 28), r"this one has \(2, 1, 28, 28\)"),
        (np.zeros((0, 0)), "at least 3 by 3"),
        (np.zeros((1, 9)), "at least 3 by 3"),
        (7, "at least 3 by 3"),
        (np.full((9, 9), np.nan), "NaN or infinity"),
        (np.full((9, 9), np.inf), "NaN or infinity"),
        (np.full((9, 9), 7), "The drawing is empty"),
        ("nowhere.png", "There is no file nowhere.png"),
        (".", "There is no file"),
        (__file__, "cannot be read as a picture"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_bad_drawing_gets_one_sentence(drawing, message):
    with pytest.raises(DrawingError, match=message) as found:
        from_drawing(drawing)
    assert "\n" not in str(found.value)


# --- the canvas -------------------------------------------------------------------------------


def test_what_was_drawn_takes_the_place_of_the_default_until_it_is_cleared():
    drawing = canvas.Scribble(DEFAULT)
    assert torch.equal(drawing.image(), from_strokes(DEFAULT))
    assert "1 stroke." in drawing.receive(json.dumps(SEVEN))
    assert drawing.drawn
    assert torch.equal(drawing.image(), from_strokes(SEVEN))
    assert "2 strokes." in drawing.receive(json.dumps(SEVEN * 2))
    assert "Nothing is drawn" in drawing.receive("[]")
    assert not drawing.drawn
    assert torch.equal(drawing.image(), from_strokes(DEFAULT))


def test_without_a_notebook_the_default_serves_and_a_sentence_says_so(capsys):
    drawing = scribble(SEVEN)
    assert capsys.readouterr().out.count(".\n") == 1
    assert torch.equal(drawing.image(), from_strokes(SEVEN))


def test_a_bad_default_is_refused_at_once():
    with pytest.raises(DrawingError, match="Strokes are a list"):
        scribble([[1, 2]])


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, as if there were a kernel."""
    IPython = pytest.importorskip("IPython")
    found = []
    monkeypatch.setattr(IPython, "get_ipython", lambda: types.SimpleNamespace(kernel=True))
    monkeypatch.setattr("IPython.display.display", found.append)
    return found


def test_in_jupyter_what_the_canvas_types_into_its_field_reaches_python(shown):
    ipywidgets = pytest.importorskip("ipywidgets")
    drawing = scribble()
    page, widgets = shown
    field, said = widgets.children
    assert isinstance(field, ipywidgets.Textarea)
    (name,) = field._dom_classes
    assert f'id="{name}"' in page.data
    assert f'".{name} textarea"' in page.data
    field.value = json.dumps(SEVEN)
    assert torch.equal(drawing.image(), from_strokes(SEVEN))
    assert "1 stroke" in said.value


def test_two_canvases_do_not_hear_each_other(shown):
    pytest.importorskip("ipywidgets")
    one, other = scribble(), scribble()
    shown[1].children[0].value = json.dumps(SEVEN)
    assert (one.drawn, other.drawn) == (True, False)


def test_without_ipywidgets_a_sentence_says_what_is_missing(shown, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    drawing = scribble()
    assert "pip install ipywidgets" in capsys.readouterr().out
    assert torch.equal(drawing.image(), from_strokes(DEFAULT))
    assert not shown


def test_in_colab_the_canvas_calls_python_by_the_name_that_was_registered(shown, monkeypatch):
    called = {}
    output = types.ModuleType("google.colab.output")
    output.register_callback = called.__setitem__
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.setitem(sys.modules, "google.colab.output", output)
    drawing = scribble()
    ((name, callback),) = called.items()
    assert f'invokeFunction("{name}"' in shown[0].data
    callback(json.dumps(SEVEN))
    assert torch.equal(drawing.image(), from_strokes(SEVEN))


def test_the_page_asks_for_nothing_from_elsewhere():
    assert "http" not in canvas._page("x")
    assert "src=" not in canvas._page("x")
