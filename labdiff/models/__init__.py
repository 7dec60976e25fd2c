"""The networks that ship with the labs: the five of them, drawing digits, and reading them.

This is what labs use. It needs no lab's answers to be imported; what does stands in `sampling`, `evaluation`, `train`.
"""

# each is imported as itself, which says that it is for others to use
from labdiff.models.checkpoint import from_checkpoint as from_checkpoint
from labdiff.models.checkpoint import load as load
from labdiff.models.checkpoint import load_weights as load_weights
from labdiff.models.classifier import DigitClassifier as DigitClassifier
from labdiff.models.drawing import draw as draw
from labdiff.models.reading import attributes_of as attributes_of
from labdiff.models.reading import classify as classify
from labdiff.models.shipped import autoencoder as autoencoder
from labdiff.models.shipped import digit_classifier as digit_classifier
from labdiff.models.shipped import guided_unet as guided_unet
from labdiff.models.shipped import text_to_image as text_to_image
from labdiff.models.shipped import unet as unet
