"""Pictures with captions: what is drawn can be read back, and captions say what is to be seen."""

from __future__ import annotations

import re

import pytest
import torch

from labdiff import data, models, pictures
from labdiff.models.reading import legible_shapes
from labdiff.reference.lab6_text_to_image import LENGTH, WORDS, tokenise


@pytest.fixture(scope="module")
def made():
    """300 pictures of offline digits, their captions and attributes, of all combinations."""
    images, labels = data.offline_digits()
    return pictures.pictures(images[:300], labels[:300], seed=3, held_out=None)


def test_pictures_are_in_range_and_the_same_seed_makes_the_same(made):
    painted, texts, attributes = made
    images, labels = data.offline_digits()
    again = pictures.pictures(images[:300], labels[:300], seed=3, held_out=None)
    assert painted.shape == (300, 3, 32, 32) and painted.dtype == torch.float32
    assert painted.min() >= -1 and painted.max() <= 1
    assert torch.equal(painted, again[0]) and texts == again[1] and torch.equal(attributes, again[2])
    assert texts != pictures.captions(attributes, seed=4)


def test_what_is_drawn_is_read_back(made):
    painted, _, attributes = made
    right = (models.attributes_of(painted) == attributes).float().mean(0)
    assert (right[[pictures.INK, pictures.GROUND]] == 1).all()
    assert (right[[pictures.THICKNESS, pictures.SLANT]] > 0.96).all()
    assert right[pictures.DIGIT] > 0.92 and right[pictures.SIZE] > 0.8


def test_a_picture_of_noise_or_of_one_colour_is_read_without_an_error():
    noise = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for strange in (noise, torch.full((2, 3, 32, 32), -1.0)):
        assert models.attributes_of(strange).shape == (len(strange), 6)


def test_legible_shapes_are_read_rightly_in_every_colour():
    images, labels = data.offline_digits()
    inked, attributes = legible_shapes(images[:200], labels[:200], seed=5)
    assert 100 < len(inked) < 200
    attributes = pictures.recoloured(attributes, torch.Generator().manual_seed(1))
    read = models.attributes_of(pictures.paint(inked, attributes, torch.Generator().manual_seed(2)))
    assert (read == attributes).all(1).float().mean() > 0.9


def test_training_never_sees_a_held_out_combination_and_a_test_sees_nothing_else():
    digits = torch.arange(3000) % 10
    for held_out in (False, True):
        attributes = pictures.random_attributes(digits, torch.Generator().manual_seed(0), held_out)
        ink = (5 * digits + 2) % 6  # that a digit is never seen in
        assert ((attributes[:, pictures.INK] == ink) == held_out).all()
        assert (attributes[:, pictures.INK] != attributes[:, pictures.GROUND]).all()
        for column, values in enumerate(pictures.ATTRIBUTES.values()):
            assert attributes[:, column].unique().tolist() == list(range(len(values)))  # each alone is still seen


def test_a_caption_says_every_attribute_that_is_not_the_middle_one():
    attributes = pictures.random_attributes(torch.arange(600) % 10, torch.Generator().manual_seed(0))
    for row, text in zip(attributes.tolist(), pictures.captions(attributes), strict=True):
        words = set(re.findall(r"\w+", text))
        value = dict(zip(pictures.ATTRIBUTES, row, strict=True))
        assert words & {pictures.NUMBERS[value["digit"]], str(value["digit"])}
        assert re.search(rf"on (a )?{pictures.ATTRIBUTES['ground'][value['ground']]}\b", text)
        assert pictures.ATTRIBUTES["ink"][value["ink"]] in words
        for name, said in (("thickness", pictures.THICK), ("size", pictures.SIZES)):
            every = {word for each in said.values() for word in each}
            assert words & every == words & set(said.get(pictures.ATTRIBUTES[name][value[name]], ()))
            assert bool(words & every) == (value[name] != pictures.MIDDLE)
        leaning = words & {"left", "right"}
        assert leaning == (
            set() if value["slant"] == pictures.MIDDLE else {pictures.ATTRIBUTES["slant"][value["slant"]]}
        )
        assert "  " not in text and " ," not in text and not text.endswith(",")


def test_every_caption_can_be_tokenised():
    attributes = pictures.random_attributes(torch.arange(600) % 10, torch.Generator().manual_seed(0))
    for text in pictures.captions(attributes):
        ids = tokenise(text)
        assert len(ids) == LENGTH
        assert [WORDS[i] for i in ids if not WORDS[i].startswith("<")] == re.findall(r"\w+", text)
