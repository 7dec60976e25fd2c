"""text_to_image.ckpt: lab 6's text encoder and U-Net on the latents of captioned pictures."""

from __future__ import annotations

import torch
from tqdm import tqdm

from labdiff import data, pictures
from labdiff.models.checkpoint import from_checkpoint
from labdiff.models.evaluation import evaluate_text_to_image
from labdiff.models.reading import attributes_of, legible_shapes
from labdiff.models.sampling import sample_prompts
from labdiff.models.train.diffusion import diffusion
from labdiff.models.train.recipe import Recipe
from labdiff.models.train.training import Figures, Task
from labdiff.reference.lab6_text_to_image import Autoencoder, TextToImage, tokenise

RECIPE = Recipe(
    data="pictures made from mnist",
    steps=12_000,
    batch=64,
    peak=1.5e-3,
    T=1000,
    schedule="cosine",
    target="v",
    drop=0.1,
    colourings=2,
    autoencoder="autoencoder",
)
PROMPTS = (  # drawn on the way
    "a bold red seven leaning left on blue",
    "thin 3, green on black",
    "a big white zero on red",
    "on yellow a bold small blue 8 leaning right",
    "black 5 on a white ground",
    "the four in yellow on green, thin tilted left",
    "a large thick white two on black",
    "blue 9 leaning right on a red ground",
)


def prepare(recipe: Recipe) -> Task:
    """What is trained: v of latents, told the caption.

    Pictures that cannot be read back once the autoencoder has had them are left out, and so are the combinations that
    labdiff.pictures holds out. Raises DataError where MNIST cannot be had.
    """
    coder = from_checkpoint(Autoencoder, recipe.autoencoder or "")
    torch.manual_seed(recipe.seed)
    network = TextToImage(**recipe.config)
    inked, attributes = legible_shapes(*data.load("mnist", train=True), seed=recipe.seed)
    latents, tokens = [], list[list[int]]()
    for seed in range(recipe.seed * 1_000, recipe.seed * 1_000 + (recipe.colourings or 0)):
        generator = torch.Generator().manual_seed(seed)
        attributes = pictures.recoloured(attributes, generator, held_out=False)  # (N, 6)
        painted = pictures.paint(inked, attributes, generator)  # (N, 3, 32, 32)
        encoded, legible = legible_latents(coder, painted, attributes)
        latents.append(encoded[legible])
        tokens += map(tokenise, pictures.captions(attributes[legible], seed))
    z, words = torch.cat(latents), torch.tensor(tokens)  # (M, 4, 8, 8), (M, L)

    def picture(ema: TextToImage) -> torch.Tensor:
        return sample_prompts(ema, coder, PROMPTS)

    def evaluate(ema: TextToImage) -> Figures:
        return evaluate_text_to_image(ema, coder)

    return Task(network, len(z), *diffusion(recipe, z, words, tokenise("")), evaluate, picture)


@torch.inference_mode()
def legible_latents(coder: Autoencoder, x: torch.Tensor, attributes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures as latents, and which of them are read rightly once they are decoded.

    x: (N, 3, 32, 32) in [-1, 1]. attributes: (N, 6), what the pictures show.
    Returns latents (N, 4, 8, 8), of deviation about 1, and (N,), bool.
    """
    latents, legible = [], []
    parts = list(zip(x.split(500), attributes.split(500), strict=True))
    for part, shown in tqdm(parts, desc="encoding", disable=len(x) < 2000, mininterval=1):
        latents.append(coder.encode(part))
        legible.append((attributes_of(coder.decode(latents[-1])) == shown).all(1))
    return torch.cat(latents), torch.cat(legible)
