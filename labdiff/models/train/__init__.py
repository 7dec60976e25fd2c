"""Training the checkpoints that ship with the labs: `labdiff train`, also under torchrun.

Each checkpoint has a module that holds its recipe and says what its network, its batches and its loss are; `training`
does the rest.
"""

from collections.abc import Callable

from labdiff.models.train import autoencoder, classifier, guided, model, text_to_image
from labdiff.models.train.recipe import Recipe
from labdiff.models.train.training import Task

TRAINED: dict[str, tuple[Recipe, Callable[[Recipe], Task]]] = {
    "model": (model.RECIPE, model.prepare),
    "classifier": (classifier.RECIPE, classifier.prepare),
    "guided": (guided.RECIPE, guided.prepare),
    "autoencoder": (autoencoder.RECIPE, autoencoder.prepare),
    "text_to_image": (text_to_image.RECIPE, text_to_image.prepare),
}
