"""Built by `labdiff build` from solutions/lab6_text_to_image/lab6_text_to_image.py; edit that, not this."""

import difflib
import re

import torch
import torch.nn.functional as F
from torch import nn

from labdiff import pictures
from labdiff.reference.lab1_forward import extract, q_sample
from labdiff.reference.lab2_unet import Downsample, Stage, UNet, Upsample, attention
from labdiff.reference.lab3_training import v_target, x0_from_v
from labdiff.reference.lab5_guidance import guide, walk


class Block(nn.Module):
    """A residual block without a time: what an autoencoder is made of."""

    def __init__(self, in_channels, out_channels, groups=8):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x):
        """x: (B, in_channels, H, W). Returns (B, out_channels, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))  # (B, out, H, W)
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))  # (B, out, H, W)


class Encoder(nn.Module):
    """From pictures to the mean and the log variance of their latents: a quarter of the height and of the width."""

    def __init__(self, in_channels=3, channels=48, latent_channels=4):
        super().__init__()
        self.stem = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * in_channels, channels, 3, padding=1))
        self.block1 = Block(channels, channels)
        self.down = Downsample(channels)
        self.block2 = Block(channels, 2 * channels)
        self.block3 = Block(2 * channels, 2 * channels)
        self.norm = nn.GroupNorm(8, 2 * channels)
        self.head = nn.Conv2d(2 * channels, 2 * latent_channels, 3, padding=1)

    def forward(self, x):
        """x: (B, in_channels, H, W) in [-1, 1], H and W multiples of 4.

        Returns mean and log variance, each (B, latent_channels, H / 4, W / 4); the log variance is in [-20, 10].
        """
        h = self.block1(self.stem(x))  # (B, C, H / 2, W / 2)
        h = self.block3(self.block2(self.down(h)))  # (B, 2C, H / 4, W / 4)
        mean, log_variance = self.head(F.silu(self.norm(h))).chunk(2, dim=1)  # (B, latent, H / 4, W / 4) each
        return mean, log_variance.clamp(-20, 10)


class Decoder(nn.Module):
    """From latents back to pictures."""

    def __init__(self, out_channels=3, channels=48, latent_channels=4):
        super().__init__()
        self.stem = nn.Conv2d(latent_channels, 2 * channels, 3, padding=1)
        self.block1 = Block(2 * channels, 2 * channels)
        self.block2 = Block(2 * channels, 2 * channels)
        self.up = Upsample(2 * channels)
        self.block3 = Block(2 * channels, channels)
        self.block4 = Block(channels, channels)
        self.norm = nn.GroupNorm(8, channels)
        self.head = nn.Sequential(nn.Conv2d(channels, 4 * out_channels, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, z):
        """z: (B, latent_channels, H, W). Returns (B, out_channels, 4 H, 4 W), about in [-1, 1] but not cut."""
        h = self.block2(self.block1(self.stem(z)))  # (B, 2C, H, W)
        h = self.block4(self.block3(self.up(h)))  # (B, C, 2 H, 2 W)
        return self.head(F.silu(self.norm(h)))  # (B, out, 4 H, 4 W)


def reparameterise(mean, log_variance, noise):
    """Draw a latent from the encoder's Gaussian, as a function of given noise (Kingma and Welling 2014, section 2.4).

    mean, log_variance, noise: (B, C, H, W); the noise is standard normal. Returns (B, C, H, W).
    """
    return mean + (log_variance / 2).exp() * noise  # (B, C, H, W)


def kl_divergence(mean, log_variance):
    """How far N(mean, variance) is from N(0, I), on average over all numbers (Kingma and Welling 2014, appendix B).

    mean, log_variance: (B, C, H, W). Returns a scalar tensor, 0 or more.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()  # scalar


def latent_scale(latents):
    """The number that gives latents the deviation 1 (Rombach and others 2022, appendix G).

    latents: (N, C, H, W), as the encoder makes them. The deviation is about their mean, over all numbers together.
    Returns a number, or a tensor with one number in it.
    """
    return 1 / latents.std()  # scalar


def decode_latents(decoder, z, scale):
    """Pictures of latents that were multiplied by a scale.

    decoder: decoder(latent) -> picture, for a latent as the encoder makes it. z: (B, C, H, W), scaled.
    scale: a number or a tensor with one number in it. Returns (B, 3, 4 H, 4 W) in [-1, 1].
    """
    return decoder(z / scale).clamp(-1, 1)  # (B, 3, 4 H, 4 W)


class Autoencoder(nn.Module):
    """An encoder and a decoder, and the scale that gives latents the deviation 1."""

    def __init__(self, in_channels=3, channels=48, latent_channels=4):
        super().__init__()
        self.config = {"in_channels": in_channels, "channels": channels, "latent_channels": latent_channels}
        self.encoder = Encoder(in_channels, channels, latent_channels)
        self.decoder = Decoder(in_channels, channels, latent_channels)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x, noise):
        """x: (B, 3, H, W). noise: (B, latent, H / 4, W / 4). Returns the picture again, mean and log variance."""
        mean, log_variance = self.encoder(x)
        return self.decoder(reparameterise(mean, log_variance, noise)), mean, log_variance

    def encode(self, x):
        """x: (B, 3, H, W) in [-1, 1]. Returns latents of deviation about 1, (B, latent, H / 4, W / 4)."""
        return self.encoder(x)[0] * self.scale

    def decode(self, z):
        """z: (B, latent, H, W), of deviation about 1. Returns pictures (B, 3, 4 H, 4 W) in [-1, 1]."""
        return decode_latents(self.decoder, z, self.scale)


@torch.inference_mode()
def encode_all(coder, x, batch=250):
    """Latents of many pictures, on the CPU. coder: an Autoencoder. x: (N, 3, H, W). Returns (N, C, H / 4, W / 4)."""
    return torch.cat([coder.encode(part.to(coder.scale.device)).cpu() for part in x.split(batch)])


@torch.inference_mode()
def decode_all(coder, z, batch=250):
    """Pictures of many latents, on the CPU. coder: an Autoencoder. z: (N, latent, H, W). Returns (N, 3, 4 H, 4 W)."""
    return torch.cat([coder.decode(part.to(coder.scale.device)).cpu() for part in z.split(batch)])


def predict_random_latent():
    """Return "digits", "patches" or "one colour"."""
    return "patches"


WORDS = ("<pad>", "<start>", *pictures.vocabulary())
VOCABULARY = len(WORDS)
LENGTH = 12  # of a prompt, in tokens


def unknown_word(word, words):
    """What to say of a word that is not in the vocabulary: that it is unknown, and what may have been meant."""
    near = " or ".join(difflib.get_close_matches(word, words, n=2, cutoff=0.6))
    return f"The word {word!r} is unknown here." + (f" Did you mean {near}?" if near else "")


def tokenise(text, words=WORDS, length=LENGTH):
    """The numbers of a prompt's words: first that of <start>, then one per word, then <pad> up to the length.

    text: words, with or without commas, in small or capital letters; "" is the empty prompt. words: the vocabulary.
    Returns a list of `length` ints. Raises ValueError, and names the word, where one is not in the vocabulary, and
    where there are too many.
    """
    found = re.findall(r"\w+", text.lower())
    for word in found:
        if word not in words:
            raise ValueError(unknown_word(word, words))
    if len(found) >= length:
        raise ValueError(f"The prompt has more than {length - 1} words.")
    ids = [words.index(word) for word in ["<start>", *found]]
    return ids + [words.index("<pad>")] * (length - len(ids))


class TextEncoder(nn.Module):
    """From the numbers of words to a vector for each, which has seen the other words."""

    def __init__(self, words=VOCABULARY, length=LENGTH, width=128, layers=2, heads=4):
        super().__init__()
        self.token = nn.Embedding(words, width)
        self.position = nn.Parameter(torch.randn(length, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens):
        """tokens: (B, length), int64. Returns (B, length, width). Every place counts, <pad> too."""
        h = self.token(tokens) + self.position  # (B, L, width)
        return self.norm(self.layers(h))  # (B, L, width)


class CrossAttention(nn.Module):
    """Attention of the places of a map to the words of a prompt, with a residual."""

    def __init__(self, channels, context_channels, heads=4, groups=8):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups, channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.kv = nn.Linear(context_channels, 2 * channels)
        self.out = nn.Conv2d(channels, channels, 1)
        self.attend = attention
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x, context):
        """x: (B, C, H, W). context: (B, L, context_channels). Returns the shape of x.

        self.attend(q, k, v) returns the output and the weights.
        """
        B, C, H, W = x.shape
        q = self.q(self.norm(x)).reshape(B, self.heads, C // self.heads, H * W)  # (B, heads, d, HW)
        k, v = self.kv(context).transpose(1, 2).reshape(B, 2, self.heads, C // self.heads, -1).unbind(1)
        h, _ = self.attend(q, k, v)  # (B, heads, d, HW)
        return x + self.out(h.reshape(B, C, H, W))  # (B, C, H, W)


def cross_attention_behind(stage, context_channels, heads):
    """A cross-attention whose channels are those that a stage returns."""
    return CrossAttention(stage.res.conv2.out_channels, context_channels, heads)


class TextStage(Stage):
    """A stage of lab 2's U-Net that also attends to the words."""

    def __init__(self, stage, context_channels, heads):
        nn.Module.__init__(self)  # the parts come from a stage that exists already
        self.res, self.attn = stage.res, stage.attn
        self.cross = cross_attention_behind(stage, context_channels, heads)

    def forward(self, x, told):
        """x: (B, C, H, W). told: the time vector (B, E) and the words (B, L, context_channels), a pair.

        self.res(x, emb), self.attn(h) and self.cross(h, context) are the parts. Returns (B, out, H, W).
        """
        emb, context = told
        h = self.attn(self.res(x, emb))  # (B, out, H, W)
        return self.cross(h, context)  # (B, out, H, W)


class TextUNet(UNet):
    """Lab 2's U-Net for latents, each of whose stages attends to the words."""

    def __init__(self, context_channels=128, in_channels=4, channels=80, heads=4, patch=1, **unet):
        super().__init__(in_channels=in_channels, channels=channels, heads=heads, patch=patch, **unet)
        self.config["context_channels"] = context_channels
        self.down, self.up = (
            nn.ModuleList(TextStage(b, context_channels, heads) if isinstance(b, Stage) else b for b in blocks)
            for blocks in (self.down, self.up)
        )
        self.middle = TextStage(self.middle, context_channels, heads)

    def forward(self, x, t, context):
        """x: (B, in_channels, H, W). t: (B,). context: (B, L, context_channels). Returns the shape of x."""
        emb = self.time_mlp(self.embed(t))  # (B, 4 channels)
        return walk(self, x, (emb, context))  # (B, in_channels, H, W)


class TextToImage(nn.Module):
    """The text encoder and the U-Net, trained together: v of a noisy latent, given the numbers of a prompt's words."""

    def __init__(self, words=VOCABULARY, length=LENGTH, **unet):
        super().__init__()
        self.unet = TextUNet(**unet)
        self.text = TextEncoder(words, length, self.unet.config["context_channels"])
        self.config = {"words": words, "length": length, **self.unet.config}

    def forward(self, z_t, t, tokens):
        """z_t: (B, 4, H, W). t: (B,). tokens: (B, L), int64. Returns v, the shape of z_t."""
        return self.unet(z_t, t, self.text(tokens))  # (B, 4, H, W)


def latent_loss(model, z_0, tokens, t, eps, abar_t):
    """The loss of latent diffusion, for a network that predicts v (Rombach and others 2022, equation 3).

    model: model(z_t, t, tokens) -> v, (B, C, H, W). z_0: (B, C, H, W), clean latents. tokens: (B, L), their captions.
    t: (B,), int64. eps: (B, C, H, W), standard normal. abar_t: (B, 1, 1, 1). Returns a scalar tensor.
    """
    z_t = q_sample(z_0, abar_t, eps)  # (B, C, H, W)
    return F.mse_loss(model(z_t, t, tokens), v_target(z_0, eps, abar_t))  # scalar


def drop_captions(tokens, u, p, null):
    """Replace whole captions by the empty prompt with probability p (Ho and Salimans 2022, algorithm 1, line 3).

    tokens: (B, L), int64. u: (B,), float32, uniform in [0, 1). p: a number in [0, 1]; a caption is dropped where u < p.
    null: (L,), int64, the tokens of the empty prompt. Returns (B, L), int64.
    """
    return torch.where((u < p)[:, None], null, tokens)  # (B, L)


def guided_guess(predict, z_t, context, negative, scale):
    """A guess led from a negative prompt towards a prompt, in a single call (Ho and Salimans 2022, equation 6).

    predict: predict(z_t, context) -> guess, the shape of z_t, for a batch of any size. z_t: (B, C, H, W).
    context: (B, L, width), of the prompts. negative: (1, L, width) or (B, L, width), of the empty or the negative
    prompts. scale: a number; where it is 1, predict is called with B rows, else with 2B. Returns (B, C, H, W).
    """
    if scale == 1:
        return predict(z_t, context)  # (B, C, H, W)
    both = torch.cat([negative.expand_as(context), context])  # (2B, L, width)
    away, towards = predict(torch.cat([z_t, z_t]), both).chunk(2)  # (B, C, H, W) each
    return guide(away, towards, scale)  # (B, C, H, W)


def make_context_denoiser(unet, alphas_cumprod, context, negative, scale=1.0):
    """Make a denoiser of latents, as lab 4's samplers take it.

    unet: a TextUNet. alphas_cumprod: (T,). context: (B, L, width), of the prompts. negative: (1, L, width) or
    (B, L, width), of the empty prompt or of negative prompts.
    Returns denoise(z_t, t) -> z_0, (B, 4, H, W), not cut: a latent has no bounds.
    """

    def denoise(z_t, t):
        def predict(z, words):
            steps = torch.full((len(z),), t, dtype=torch.int64, device=z.device)  # (B,)
            return x0_from_v(z, unet(z, steps, words), extract(alphas_cumprod.to(z), steps, z))  # (B, 4, H, W)

        return guided_guess(predict, z_t, context, negative, scale)  # (B, 4, H, W)

    return denoise


def make_text_denoiser(model, alphas_cumprod, tokens, null, scale=1.0):
    """Make a denoiser of latents for prompts.

    model: a TextToImage. alphas_cumprod: (T,). tokens: (B, L), the prompts. null: (L,) or (B, L), the empty prompt, or
    negative prompts. Returns denoise(z_t, t) -> z_0, (B, 4, H, W).
    """
    negative = model.text(null.reshape(-1, tokens.shape[1]))  # (1, L, width) or (B, L, width)
    return make_context_denoiser(model.unet, alphas_cumprod, model.text(tokens), negative, scale)


def attention_maps(weights, height, width):
    """A map for every word: how much each place listened to it (Hertz and others 2023).

    weights: (B, heads, N, L), of cross-attention, with N = height * width places counted row by row.
    Returns (B, L, height, width), the mean over the heads.
    """
    return weights.mean(1).transpose(1, 2).reshape(len(weights), -1, height, width)  # (B, L, H, W)


def predict_held_out():
    """Return "as asked", "other ink" or "other digit"."""
    return "as asked"
