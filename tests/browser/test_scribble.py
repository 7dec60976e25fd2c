"""The canvas in JupyterLab, in a real browser: what is drawn with the mouse reaches Python."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
from collections.abc import Iterator

import nbformat
import numpy as np
import pytest
from chromium import NEEDED, chromium, page  # noqa: F401, the fixtures that tests here ask for
from nbformat.v4 import new_code_cell, new_notebook
from serving import code_cell, run_cell, serving

with contextlib.suppress(ImportError):
    from playwright.sync_api import Locator, Page, expect

pytestmark = [
    *NEEDED,
    pytest.mark.skipif(not importlib.util.find_spec("jupyterlab"), reason="JupyterLab is not installed"),
    pytest.mark.skipif(not importlib.util.find_spec("ipywidgets"), reason="ipywidgets is not installed"),
]

SHOW = "from labdiff.canvas import from_strokes, scribble\npad = scribble()"
TELL = """\
import json
print(json.dumps([pad.drawn, len(pad.strokes), pad.strokes[0][0], pad.strokes[-1][-1], [*pad.image().shape]]))"""


@pytest.fixture(scope="module", params=["jupyterlab", "notebook"])
def notebook_page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a notebook with a canvas, in JupyterLab or in Jupyter Notebook."""
    front = request.param
    if not importlib.util.find_spec(front):
        pytest.skip(f"{front} is not installed")
    place = tmp_path_factory.mktemp(front)
    (place / "root").mkdir()
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    notebook = new_notebook(cells=[new_code_cell(SHOW), new_code_cell(TELL)], metadata=kernel)
    nbformat.write(notebook, place / "root" / "draw.ipynb")
    with serving(place, front) as address:
        yield f"{address}/{'lab/tree' if front == 'jupyterlab' else 'notebooks'}/draw.ipynb"


def stroke(page: Page, canvas: Locator, *points: tuple[int, int]) -> None:
    """Draw one stroke with the mouse; the points are in pixels of the canvas."""
    area = canvas.bounding_box()
    for i, (x, y) in enumerate(points):
        page.mouse.move(area["x"] + x, area["y"] + y, steps=5)
        if i == 0:
            page.mouse.down()
    page.mouse.up()


def open_notebook(page: Page, address: str) -> Locator:
    """Open the notebook, wait for its kernel, run the cell with the canvas and return it."""
    page.goto(address)
    expect(page.locator(".jp-Notebook .jp-CodeCell")).to_have_count(2)
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", state="attached")
    show = code_cell(page, "scribble()")
    run_cell(page, show)
    expect(show.locator("canvas")).to_be_visible()
    show.locator("canvas").scroll_into_view_if_needed()
    return show


def told(page: Page) -> list:
    """What Python says of the drawing, see TELL."""
    cell = code_cell(page, "json.dumps")
    run_cell(page, cell)
    return json.loads(cell.locator(".jp-OutputArea-output pre").inner_text())


def test_what_is_drawn_reaches_python_and_can_be_undone_and_cleared(notebook_page, page):
    show = open_notebook(page, notebook_page)
    canvas = show.locator("canvas")
    expect(show.get_by_text("Draw a digit here.")).to_be_visible()
    expect(show.locator("textarea")).to_be_hidden()

    stroke(page, canvas, (60, 60), (200, 60), (110, 230))
    expect(show.get_by_text("Python has 1 stroke.")).to_be_visible()
    stroke(page, canvas, (90, 140), (180, 140))
    expect(show.get_by_text("Python has 2 strokes.")).to_be_visible()
    drawn, strokes, first, last, shape = told(page)
    assert (drawn, strokes, shape) == (True, 2, [1, 1, 28, 28])
    assert first == pytest.approx([60, 60], abs=3)
    assert last == pytest.approx([180, 140], abs=3)

    show.get_by_role("button", name="Undo").click()
    expect(show.get_by_text("Python has 1 stroke.")).to_be_visible()
    show.get_by_role("button", name="Clear").click()
    expect(show.get_by_text("Nothing is drawn")).to_be_visible()
    assert told(page)[0] is False


def test_a_canvas_that_was_saved_says_that_its_cell_must_be_run(notebook_page, page):
    show = open_notebook(page, notebook_page)
    page.evaluate("document.querySelectorAll('textarea').forEach(each => each.remove())")
    stroke(page, show.locator("canvas"), (60, 60), (200, 200))
    expect(show.get_by_text("run the cell again")).to_be_visible()


def test_colabs_way_is_taken_where_there_is_a_colab(chromium):
    """Colab itself is not here: its JavaScript side is a stand-in that notes what it is called with."""
    from labdiff.canvas import _page

    tab = chromium.new_page()
    tab.set_content(
        "<script>var google = {colab: {kernel: {invokeFunction: async (...all) => { window.called = all }}}}</script>"
        + _page("pad-1")
    )
    stroke(tab, tab.locator("canvas"), (60, 60), (200, 60))
    expect(tab.get_by_text("Python has it.")).to_be_visible()
    name, (text,), keywords = tab.evaluate("window.called")
    assert (name, keywords) == ("pad-1", {})
    assert re.fullmatch(r"\[\[(\[\d+,\d+\],?)+\]\]", text)
    tab.close()


def test_a_finger_draws_and_does_not_scroll(chromium):
    from labdiff.canvas import _page

    tab = chromium.new_context(has_touch=True).new_page()
    tab.set_content(_page("pad-2") + '<div class="pad-2"><textarea></textarea></div><p>' + "x<br>" * 99)
    area = tab.locator("canvas").bounding_box()
    touch = tab.context.new_cdp_session(tab)
    for kind, y in (("touchStart", 50), ("touchMove", 120), ("touchMove", 200), ("touchEnd", None)):
        points = [] if y is None else [{"x": area["x"] + 100, "y": area["y"] + y}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    expect(tab.locator("textarea")).not_to_have_value("")
    (points,) = json.loads(tab.locator("textarea").input_value())
    assert np.array(points) == pytest.approx(np.array([(100, 50), (100, 120), (100, 200)]), abs=2)
    assert tab.evaluate("window.scrollY") == 0
    tab.context.close()
