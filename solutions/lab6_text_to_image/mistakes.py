"""Wrong answers that people give in lab6_text_to_image; the docstring of each is the hint."""

import re

import torch
import torch.nn.functional as F

from labdiff.authoring import mistake
from labdiff.reference import lab6_text_to_image as right


class _Enc(right.Encoder):
    def features(self, x):
        return self.block3(self.block2(self.down(self.block1(self.stem(x)))))

    def made(self, x):
        return self.head(F.silu(self.norm(self.features(x))))


@mistake("Encoder")
class HalvesSwapped(_Enc):
    """You took the log variance from the first half of the channels: the mean comes first."""

    def forward(self, x):
        log_variance, mean = self.made(x).chunk(2, dim=1)
        return mean, log_variance.clamp(-20, 10)


@mistake("Encoder")
class NotClamped(_Enc):
    """You did not clamp the log variance to [-20, 10]: a fresh network can make its exponential infinite."""

    def forward(self, x):
        return self.made(x).chunk(2, dim=1)


@mistake("Encoder")
class MeanClampedToo(_Enc):
    """You clamped the mean too: only the log variance needs it."""

    def forward(self, x):
        return self.made(x).clamp(-20, 10).chunk(2, dim=1)


@mistake("Encoder")
class VarianceReturned(_Enc):
    """You return the variance: what is asked is its logarithm, which the head makes, so no exponential here."""

    def forward(self, x):
        mean, log_variance = self.made(x).chunk(2, dim=1)
        return mean, log_variance.clamp(-20, 10).exp()


@mistake("Encoder")
class EverySecondChannel(_Enc):
    """You took every second channel: the first half of the channels is the mean, the second half the log variance."""

    def forward(self, x):
        h = self.made(x)
        return h[:, ::2], h[:, 1::2].clamp(-20, 10)


@mistake("Encoder")
class BatchHalved(_Enc):
    """You halved the batch: chunk cuts along axis 0 unless told, and the channels are axis 1."""

    def forward(self, x):
        mean, log_variance = self.made(x).chunk(2)
        return mean, log_variance.clamp(-20, 10)


@mistake("Encoder")
class WithoutLastNorm(_Enc):
    """You left out the norm before the head: the end is norm, SiLU, head."""

    def forward(self, x):
        mean, log_variance = self.head(F.silu(self.features(x))).chunk(2, dim=1)
        return mean, log_variance.clamp(-20, 10)


@mistake("Encoder")
class WithoutLastSilu(_Enc):
    """You left out the SiLU before the head: the end is norm, SiLU, head."""

    def forward(self, x):
        mean, log_variance = self.head(self.norm(self.features(x))).chunk(2, dim=1)
        return mean, log_variance.clamp(-20, 10)


@mistake("Encoder")
class NotHalved(_Enc):
    """Your map is twice as high and wide as it should be: self.down is missing between block1 and block2."""

    def forward(self, x):
        h = self.block3(self.block2(self.block1(self.stem(x))))
        mean, log_variance = self.head(F.silu(self.norm(h))).chunk(2, dim=1)
        return mean, log_variance.clamp(-20, 10)


class _Dec(right.Decoder):
    def features(self, z):
        return self.block4(self.block3(self.up(self.block2(self.block1(self.stem(z))))))


@mistake("Decoder")
class DecoderWithoutNorm(_Dec):
    """You left out the norm before the head: the end is norm, SiLU, head."""

    def forward(self, z):
        return self.head(F.silu(self.features(z)))


@mistake("Decoder")
class DecoderWithoutSilu(_Dec):
    """You left out the SiLU before the head: the end is norm, SiLU, head."""

    def forward(self, z):
        return self.head(self.norm(self.features(z)))


@mistake("Decoder")
class PixelsCut(_Dec):
    """You cut the pixels to [-1, 1]: where the cut is active nothing can be learned, so leave it to decode_latents."""

    def forward(self, z):
        return self.head(F.silu(self.norm(self.features(z)))).clamp(-1, 1)


@mistake("Decoder")
class PixelsThroughTanh(_Dec):
    """You sent the pixels through a tanh: return what the head returns."""

    def forward(self, z):
        return self.head(F.silu(self.norm(self.features(z)))).tanh()


@mistake("Decoder")
class BlockTwice(_Dec):
    """You called block1 twice and block2 never."""

    def forward(self, z):
        h = self.up(self.block1(self.block1(self.stem(z))))
        return self.head(F.silu(self.norm(self.block4(self.block3(h)))))


@mistake("Decoder")
class BlockForgotten(_Dec):
    """You left out block4, the last one before the norm."""

    def forward(self, z):
        h = self.up(self.block2(self.block1(self.stem(z))))
        return self.head(F.silu(self.norm(self.block3(h))))


@mistake("Decoder")
class NotEnlarged(_Dec):
    """Your pictures have half the height and width: self.up is missing between block2 and block3."""

    def forward(self, z):
        h = self.block3(self.block2(self.block1(self.stem(z))))
        return self.head(F.silu(self.norm(self.block4(h))))


@mistake("reparameterise")
def variance_for_deviation(mean, log_variance, noise):
    """You scaled the noise by the variance: the deviation is its root, so halve the logarithm first."""
    return mean + log_variance.exp() * noise


@mistake("reparameterise")
def logarithm_for_deviation(mean, log_variance, noise):
    """You scaled the noise by the log variance itself: take the exponential of its half."""
    return mean + log_variance * noise


@mistake("reparameterise")
def root_of_the_logarithm(mean, log_variance, noise):
    """You took the root of the logarithm, which is NaN where it is negative: the root belongs to the exponential."""
    return mean + log_variance.sqrt() * noise


@mistake("reparameterise")
def exponential_halved(mean, log_variance, noise):
    """You halved the exponential: halve the logarithm, then take its exponential."""
    return mean + log_variance.exp() / 2 * noise


@mistake("reparameterise")
def mean_scaled_too(mean, log_variance, noise):
    """You scaled the mean along with the noise: the deviation belongs to the noise alone."""
    return (mean + noise) * (log_variance / 2).exp()


@mistake("reparameterise")
def mean_forgotten(mean, log_variance, noise):
    """You forgot the mean: the cloud lies around it."""
    return (log_variance / 2).exp() * noise


@mistake("reparameterise")
def noise_of_ones_own(mean, log_variance, noise):
    """You drew noise of your own: use the noise that is given, so that the result can be repeated."""
    return mean + (log_variance / 2).exp() * torch.randn_like(mean)


@mistake("reparameterise")
def gradient_cut(mean, log_variance, noise):
    """Your numbers are right, but no gradient reaches the log variance: leave out detach, no_grad and .data."""
    return mean + (log_variance.detach() / 2).exp() * noise


def _kl(mean, log_variance):
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


@mistake("kl_divergence")
def kl_without_gradient(mean, log_variance):
    """Your divergence is cut off from the encoder (detach, no_grad or item): it would hold nothing together."""
    return _kl(mean, log_variance).mean().detach()


@mistake("kl_divergence")
def kl_summed(mean, log_variance):
    """You summed over all numbers: here it is their mean."""
    return _kl(mean, log_variance).sum()


@mistake("kl_divergence")
def kl_summed_per_latent(mean, log_variance):
    """You summed over each latent, as papers do, and averaged over the batch: here it is the mean over all numbers."""
    return _kl(mean, log_variance).flatten(1).sum(1).mean()


@mistake("kl_divergence")
def kl_not_halved(mean, log_variance):
    """Your divergence is twice as large: all four terms are multiplied by one half."""
    return 2 * _kl(mean, log_variance).mean()


@mistake("kl_divergence")
def kl_sign_turned(mean, log_variance):
    """Your sign is turned: a divergence is never negative, so the mean squared comes with a plus."""
    return -_kl(mean, log_variance).mean()


@mistake("kl_divergence")
def kl_mean_not_squared(mean, log_variance):
    """You did not square the mean."""
    return 0.5 * (mean + log_variance.exp() - 1 - log_variance).mean()


@mistake("kl_divergence")
def kl_one_forgotten(mean, log_variance):
    """You forgot the -1: the divergence of the standard normal from itself must be 0."""
    return 0.5 * (mean.square() + log_variance.exp() - log_variance).mean()


@mistake("kl_divergence")
def kl_logarithm_forgotten(mean, log_variance):
    """You left out minus the log variance: without it a cloud could shrink to a point and pay nothing."""
    return 0.5 * (mean.square() + log_variance.exp() - 1).mean()


@mistake("kl_divergence")
def kl_the_other_way(mean, log_variance):
    """You took the divergence of N(0, 1) from the cloud: ln q - ln p is averaged over the cloud q, not over p."""
    return 0.5 * ((1 + mean.square()) * (-log_variance).exp() - 1 + log_variance).mean()


@mistake("kl_divergence")
def kl_of_the_deviation(mean, log_variance):
    """You used the deviation where the variance belongs: the exponential of the log variance, not of its half."""
    return 0.5 * (mean.square() + (log_variance / 2).exp() - 1 - log_variance).mean()


@mistake("latent_scale")
def the_deviation_itself(latents):
    """You return the deviation: multiplied by it, latents would have its square. Take the inverse."""
    return latents.std()


@mistake("latent_scale")
def inverse_variance(latents):
    """You return one over the variance: one over its root makes the deviation 1."""
    return 1 / latents.var()


@mistake("latent_scale")
def about_zero(latents):
    """You took the root mean square: a deviation is measured about the mean, and the mean need not be 0."""
    return 1 / latents.square().mean().sqrt()


@mistake("latent_scale")
def scale_per_channel(latents):
    """You made a scale for each channel: one number for all keeps the channels' proportions."""
    return 1 / latents.std(dim=(0, 2, 3))


@mistake("latent_scale")
def deviation_within_maps(latents):
    """You averaged the deviations of single maps: what differs from map to map and latent to latent counts too."""
    return 1 / latents.std(dim=(2, 3)).mean()


@mistake("latent_scale")
def mean_for_deviation(latents):
    """You divided by the mean: the deviation belongs there."""
    return 1 / latents.mean()


@mistake("decode_latents")
def scaled_twice(decoder, z, scale):
    """You multiplied by the scale once more: the latent was multiplied already, so divide."""
    return decoder(z * scale).clamp(-1, 1)


@mistake("decode_latents")
def scale_forgotten(decoder, z, scale):
    """You forgot the scale: the decoder was trained on latents as the encoder makes them, so divide by it first."""
    return decoder(z).clamp(-1, 1)


@mistake("decode_latents")
def scale_after_decoding(decoder, z, scale):
    """You divided the picture by the scale: it belongs to the latent, before the decoder."""
    return (decoder(z) / scale).clamp(-1, 1)


@mistake("decode_latents")
def pixels_not_cut(decoder, z, scale):
    """Your pixels leave [-1, 1]: cut them with clamp."""
    return decoder(z / scale)


@mistake("decode_latents")
def latent_cut(decoder, z, scale):
    """You cut the latent: latents have no bounds, the pixels have."""
    return decoder((z / scale).clamp(-1, 1))


@mistake("decode_latents")
def both_cut(decoder, z, scale):
    """You cut the latent as well as the pixels: only pixels have bounds."""
    return decoder((z / scale).clamp(-1, 1)).clamp(-1, 1)


@mistake("decode_latents")
def cut_to_zero_and_one(decoder, z, scale):
    """You cut to [0, 1]: pictures are in [-1, 1] here."""
    return decoder(z / scale).clamp(0, 1)


@mistake("predict_random_latent")
def says_digits():
    """Each number alone may look standard normal, but in a real latent they belong together. Look at the rows below."""
    return "digits"


@mistake("predict_random_latent")
def says_one_colour():
    """The decoder does not average: it makes of every place what that place says. Look at the rows below."""
    return "one colour"


@mistake("predict_random_latent")
def says_something_else():
    """Return one of the three texts that the question names."""
    return "noise"


def _ids(text, words, length, start=True, pad=True):
    found = re.findall(r"\w+", text.lower())
    for word in found:
        if word not in words:
            raise ValueError(f"unknown word {word}")
    if len(found) >= length:
        raise ValueError("too long")
    ids = [words.index(word) for word in (["<start>"] if start else []) + found]
    return ids + [words.index("<pad>")] * (length - len(ids) if pad else 0)


@mistake("tokenise")
def start_forgotten(text, words=right.WORDS, length=right.LENGTH):
    """You forgot <start>: every prompt begins with it."""
    return _ids(text, words, length, start=False)


@mistake("tokenise")
def not_filled_up(text, words=right.WORDS, length=right.LENGTH):
    """Your list is as long as the prompt: fill it up with <pad> to `length` tokens."""
    return _ids(text, words, length, pad=False)


@mistake("tokenise")
def filled_in_front(text, words=right.WORDS, length=right.LENGTH):
    """You put the <pad> in front: first <start>, then the words, then <pad>."""
    ids = _ids(text, words, length, pad=False)
    return [words.index("<pad>")] * (length - len(ids)) + ids


@mistake("tokenise")
def places_assumed(text, words=right.WORDS, length=right.LENGTH):
    """You took 0 and 1 for <pad> and <start>: ask the given words where they stand."""
    ids = _ids(text, words, length, start=False, pad=False)
    return [1, *ids] + [0] * (length - 1 - len(ids))


@mistake("tokenise")
def filled_with_zeros(text, words=right.WORDS, length=right.LENGTH):
    """You filled up with 0: the number of <pad> is words.index("<pad>"), wherever that is."""
    ids = _ids(text, words, length, pad=False)
    return ids + [0] * (length - len(ids))


@mistake("tokenise")
def start_and_end(text, words=right.WORDS, length=right.LENGTH):
    """You put <start> behind the words too: it only begins a prompt."""
    ids = _ids(text, words, length, pad=False)
    return (ids + [words.index("<start>")] + [words.index("<pad>")] * length)[:length]


@mistake("tokenise")
def capitals_unknown(text, words=right.WORDS, length=right.LENGTH):
    """Capital letters are unknown words to you: make the text lower case first."""
    if text != text.lower():
        raise ValueError("unknown word")
    return _ids(text, words, length)


@mistake("tokenise")
def commas_kept(text, words=right.WORDS, length=right.LENGTH):
    """You split at blanks alone, so a comma stays with its word: use re.findall(r"\\w+", text)."""
    for word in text.lower().split():
        if word not in words:
            raise ValueError(f"unknown word {word}")
    return _ids(text, words, length)


@mistake("tokenise")
def unknown_skipped(text, words=right.WORDS, length=right.LENGTH):
    """You skipped a word that is not in the vocabulary: the user would never know, so raise a ValueError."""
    return _ids(" ".join(word for word in re.findall(r"\w+", text.lower()) if word in words), words, length)


@mistake("tokenise")
def unknown_is_pad(text, words=right.WORDS, length=right.LENGTH):
    """You made <pad> of a word that is not in the vocabulary: raise a ValueError that names it."""
    found = ["<start>"] + [word if word in words else "<pad>" for word in re.findall(r"\w+", text.lower())]
    if len(found) > length:
        raise ValueError("too long")
    return [words.index(word) for word in found] + [words.index("<pad>")] * (length - len(found))


@mistake("tokenise")
def unknown_not_named(text, words=right.WORDS, length=right.LENGTH):
    """Your ValueError does not say which word is unknown (words.index alone doesn't either): put it in the message."""
    found = re.findall(r"\w+", text.lower())
    if len(found) >= length:
        raise ValueError("too long")
    ids = [words.index(word) for word in ["<start>", *found]]
    return ids + [words.index("<pad>")] * (length - len(ids))


@mistake("tokenise")
def cut_off(text, words=right.WORDS, length=right.LENGTH):
    """You cut off a prompt that is too long: its last words would have no effect, so raise a ValueError."""
    return _ids(text, words, length=100)[:length]


@mistake("tokenise")
def start_not_counted(text, words=right.WORDS, length=right.LENGTH):
    """You let one word too many pass: <start> takes a place as well, so length - 1 words are the most."""
    ids = _ids(text, words, 100, pad=False)
    if len(ids) - 1 > length:
        raise ValueError("too long")
    return ids + [words.index("<pad>")] * (length - len(ids))


@mistake("tokenise")
def length_not_checked(text, words=right.WORDS, length=right.LENGTH):
    """You do not check the length: beside <start> at most length - 1 words fit, so raise a ValueError for more."""
    ids = _ids(text, words, 100, pad=False)
    return ids + [words.index("<pad>")] * (length - len(ids))


@mistake("tokenise")
def one_too_strict(text, words=right.WORDS, length=right.LENGTH):
    """You refuse a prompt that still fits: <start> and length - 1 words fill `length` places."""
    if len(re.findall(r"\w+", text)) >= length - 1:
        raise ValueError("too long")
    return _ids(text, words, length)


@mistake("tokenise")
def as_a_set(text, words=right.WORDS, length=right.LENGTH):
    """You dropped a word that came twice: every word of the prompt gets its place, in order."""
    return _ids(" ".join(dict.fromkeys(re.findall(r"\w+", text.lower()))), words, length)


@mistake("TextEncoder")
class PositionForgotten(right.TextEncoder):
    """You forgot the position: without it a prompt is a set of words, and their order means nothing."""

    def forward(self, tokens):
        return self.norm(self.layers(self.token(tokens)))


@mistake("TextEncoder")
class PositionTooLate(right.TextEncoder):
    """You added the position after the layers: the words must know their places while they look at each other."""

    def forward(self, tokens):
        return self.norm(self.layers(self.token(tokens)) + self.position)


@mistake("TextEncoder")
class PositionMultiplied(right.TextEncoder):
    """You multiplied by the position where it is added."""

    def forward(self, tokens):
        return self.norm(self.layers(self.token(tokens) * self.position))


@mistake("TextEncoder")
class TextNormForgotten(right.TextEncoder):
    """You left out the last norm."""

    def forward(self, tokens):
        return self.layers(self.token(tokens) + self.position)


@mistake("TextEncoder")
class TextNormFirst(right.TextEncoder):
    """You normed before the layers: the norm comes last, on what the layers return."""

    def forward(self, tokens):
        return self.layers(self.norm(self.token(tokens) + self.position))


@mistake("TextEncoder")
class LayersForgotten(right.TextEncoder):
    """You left out self.layers: the words have not looked at each other."""

    def forward(self, tokens):
        return self.norm(self.token(tokens) + self.position)


@mistake("TextEncoder")
class WordsAveraged(right.TextEncoder):
    """You averaged the words into one vector: cross-attention needs one for each, (B, L, width)."""

    def forward(self, tokens):
        return self.norm(self.layers(self.token(tokens) + self.position)).mean(1)


@mistake("TextEncoder")
class PadHidden(right.TextEncoder):
    """You hid <pad> from the other words (a mask): here every place counts, and the checkpoint was trained so."""

    def forward(self, tokens):
        mask = tokens == 0
        return self.norm(self.layers(self.token(tokens) + self.position, src_key_padding_mask=mask))


@mistake("TextEncoder")
class CausalWords(right.TextEncoder):
    """You let a word see only the words before it (a causal mask): here every word sees all."""

    def forward(self, tokens):
        length = tokens.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool, device=tokens.device).triu(1)
        return self.norm(self.layers(self.token(tokens) + self.position, mask=mask))


class _Cross(right.CrossAttention):
    def queries(self, x):
        B, C, H, W = x.shape
        return self.q(self.norm(x)).reshape(B, self.heads, C // self.heads, H * W)

    def keys(self, context, C):
        return self.kv(context).transpose(1, 2).reshape(len(context), 2, self.heads, C // self.heads, -1).unbind(1)


@mistake("CrossAttention")
class CrossWithoutResidual(_Cross):
    """You forgot the residual: return x + self.out(h)."""

    def forward(self, x, context):
        h, _ = self.attend(self.queries(x), *self.keys(context, x.shape[1]))
        return self.out(h.reshape(x.shape))


@mistake("CrossAttention")
class CrossResidualOfNorm(_Cross):
    """You added the normalised map: the residual is x as it came in."""

    def forward(self, x, context):
        h, _ = self.attend(self.queries(x), *self.keys(context, x.shape[1]))
        return self.norm(x) + self.out(h.reshape(x.shape))


@mistake("CrossAttention")
class CrossWithoutNorm(_Cross):
    """You made the queries of x without the norm."""

    def forward(self, x, context):
        B, C, H, W = x.shape
        q = self.q(x).reshape(B, self.heads, C // self.heads, H * W)
        h, _ = self.attend(q, *self.keys(context, C))
        return x + self.out(h.reshape(x.shape))


@mistake("CrossAttention")
class CrossWithoutOut(_Cross):
    """You left out the last layer, self.out, which mixes the heads."""

    def forward(self, x, context):
        h, _ = self.attend(self.queries(x), *self.keys(context, x.shape[1]))
        return x + h.reshape(x.shape)


@mistake("CrossAttention")
class AxesNotSwapped(_Cross):
    """You reshaped self.kv(context) without swapping its axes: words come before channels there, so transpose first."""

    def forward(self, x, context):
        B, C, _, _ = x.shape
        k, v = self.kv(context).reshape(B, 2, self.heads, C // self.heads, -1).unbind(1)
        h, _ = self.attend(self.queries(x), k, v)
        return x + self.out(h.reshape(x.shape))


@mistake("CrossAttention")
class ValuesFirst(_Cross):
    """You took the values first: the keys are the first half of self.kv(context), the values the second."""

    def forward(self, x, context):
        v, k = self.keys(context, x.shape[1])
        h, _ = self.attend(self.queries(x), k, v)
        return x + self.out(h.reshape(x.shape))


@mistake("CrossAttention")
class HeadsBeforeKeys(_Cross):
    """You split kv into heads first and keys and values second: all keys come first, then all values."""

    def forward(self, x, context):
        B, C, _, _ = x.shape
        k, v = self.kv(context).transpose(1, 2).reshape(B, self.heads, 2, C // self.heads, -1).unbind(2)
        h, _ = self.attend(self.queries(x), k, v)
        return x + self.out(h.reshape(x.shape))


@mistake("CrossAttention")
class CrossOneHead(_Cross):
    """You attend with a single head: split the channels into self.heads heads of C / heads channels."""

    def forward(self, x, context):
        B, C, H, W = x.shape
        q = self.q(self.norm(x)).reshape(B, 1, C, H * W)
        k, v = self.kv(context).transpose(1, 2).reshape(B, 2, 1, C, -1).unbind(1)
        h, _ = self.attend(q, k, v)
        return x + self.out(h.reshape(x.shape))


@mistake("CrossAttention")
class HeadsBehindChannels(_Cross):
    """You wrote the axes as (d, heads): heads comes first, since a head owns C / heads channels in a row."""

    def forward(self, x, context):
        B, C, H, W = x.shape
        q = self.q(self.norm(x)).reshape(B, C // self.heads, self.heads, H * W)
        k, v = self.kv(context).transpose(1, 2).reshape(B, 2, C // self.heads, self.heads, -1).unbind(1)
        h, _ = self.attend(q, k, v)
        return x + self.out(h.reshape(x.shape))


@mistake("CrossAttention")
class CrossNotThroughAttend(_Cross):
    """You did not call self.attend: further below we look at the weights through it."""

    def forward(self, x, context):
        h, _ = right.attention(self.queries(x), *self.keys(context, x.shape[1]))
        return x + self.out(h.reshape(x.shape))


@mistake("CrossAttention")
class HeadsMoved(_Cross):
    """You moved the heads behind d before the last reshape: (B, heads, d, N) becomes (B, C, H, W) by reshape alone."""

    def forward(self, x, context):
        h, _ = self.attend(self.queries(x), *self.keys(context, x.shape[1]))
        return x + self.out(h.transpose(1, 2).reshape(x.shape))


@mistake("TextStage")
class WordsBeforePlaces(right.TextStage):
    """You asked the words before self-attention: first the places agree among themselves, then they ask."""

    def forward(self, x, told):
        emb, context = told
        return self.attn(self.cross(self.res(x, emb), context))


@mistake("TextStage")
class WordsForgotten(right.TextStage):
    """You left out self.cross: the stage never hears the words."""

    def forward(self, x, told):
        return self.attn(self.res(x, told[0]))


@mistake("TextStage")
class PlacesForgotten(right.TextStage):
    """You left out self.attn: on the lowest floor the places look at each other before they ask the words."""

    def forward(self, x, told):
        emb, context = told
        return self.cross(self.res(x, emb), context)


@mistake("TextStage")
class ResidualTwice(right.TextStage):
    """You added the map once more: self.cross has its residual inside."""

    def forward(self, x, told):
        emb, context = told
        h = self.attn(self.res(x, emb))
        return h + self.cross(h, context)


@mistake("TextStage")
class PairSwapped(right.TextStage):
    """You took the pair in the wrong order: told is (emb, context)."""

    def forward(self, x, told):
        context, emb = told
        return self.cross(self.attn(self.res(x, emb)), context)


@mistake("TextStage")
class PairHandedOn(right.TextStage):
    """You gave the whole pair to self.res: it wants the time vector alone, the first of the two."""

    def forward(self, x, told):
        return self.cross(self.attn(self.res(x, told)), told[1])


def _noisy(z_0, eps, abar_t):
    return abar_t.sqrt() * z_0 + (1 - abar_t).sqrt() * eps


def _velocity(z_0, eps, abar_t):
    return abar_t.sqrt() * eps - (1 - abar_t).sqrt() * z_0


@mistake("latent_loss")
def compared_with_noise(model, z_0, tokens, t, eps, abar_t):
    """You compared with the noise: this network predicts v."""
    return F.mse_loss(model(_noisy(z_0, eps, abar_t), t, tokens), eps)


@mistake("latent_loss")
def compared_with_latent(model, z_0, tokens, t, eps, abar_t):
    """You compared with the clean latent: this network predicts v."""
    return F.mse_loss(model(_noisy(z_0, eps, abar_t), t, tokens), z_0)


@mistake("latent_loss")
def clean_latent_given(model, z_0, tokens, t, eps, abar_t):
    """You gave the network the clean latent: it sees z_t, with noise."""
    return F.mse_loss(model(z_0, t, tokens), _velocity(z_0, eps, abar_t))


@mistake("latent_loss")
def loss_summed(model, z_0, tokens, t, eps, abar_t):
    """You summed the squares: the loss is their mean."""
    return F.mse_loss(model(_noisy(z_0, eps, abar_t), t, tokens), _velocity(z_0, eps, abar_t), reduction="sum")


@mistake("latent_loss")
def absolute_error(model, z_0, tokens, t, eps, abar_t):
    """You took the absolute error: the loss is the mean of the squares."""
    return F.l1_loss(model(_noisy(z_0, eps, abar_t), t, tokens), _velocity(z_0, eps, abar_t))


@mistake("latent_loss")
def target_swapped(model, z_0, tokens, t, eps, abar_t):
    """You gave v_target its arguments in the wrong order: the clean latent first, then the noise."""
    return F.mse_loss(model(_noisy(z_0, eps, abar_t), t, tokens), _velocity(eps, z_0, abar_t))


@mistake("latent_loss")
def sample_swapped(model, z_0, tokens, t, eps, abar_t):
    """You gave q_sample latent and noise in the wrong order: it takes (x_0, abar_t, noise)."""
    return F.mse_loss(model(_noisy(eps, z_0, abar_t), t, tokens), _velocity(z_0, eps, abar_t))


@mistake("latent_loss")
def loss_without_gradient(model, z_0, tokens, t, eps, abar_t):
    """Your loss is cut off from the network (detach, no_grad or item): nothing would be learned from it."""
    return F.mse_loss(model(_noisy(z_0, eps, abar_t), t, tokens), _velocity(z_0, eps, abar_t)).detach()


@mistake("latent_loss")
def loss_per_latent(model, z_0, tokens, t, eps, abar_t):
    """You return a loss per latent: the mean over the batch belongs to it."""
    gap = model(_noisy(z_0, eps, abar_t), t, tokens) - _velocity(z_0, eps, abar_t)
    return gap.square().mean((1, 2, 3))


@mistake("drop_captions")
def dropped_the_others(tokens, u, p, null):
    """You dropped the captions with u at p or above: those below p go."""
    return torch.where((u >= p)[:, None], null, tokens)


@mistake("drop_captions")
def dropped_to_zero(tokens, u, p, null):
    """You filled dropped captions with 0: the empty prompt is null, whatever its numbers."""
    return torch.where((u < p)[:, None], torch.zeros_like(null), tokens)


@mistake("drop_captions")
def condition_along_words(tokens, u, p, null):
    """Your condition runs along the words: with a second axis, (u < p)[:, None], it goes with the captions."""
    return torch.where(u < p, null, tokens)


@mistake("drop_captions")
def only_first_word(tokens, u, p, null):
    """You replaced one word: the whole caption becomes null."""
    dropped = tokens.clone()
    dropped[:, 0] = torch.where(u < p, null[0], tokens[:, 0])
    return dropped


@mistake("drop_captions")
def rows_removed(tokens, u, p, null):
    """You took the captions out of the batch: they become null, and the number of rows stays."""
    return tokens[u >= p]


@mistake("drop_captions")
def own_dice(tokens, u, p, null):
    """You drew numbers of your own: use the given u, so that the result can be repeated."""
    return torch.where((torch.rand(u.shape, device=u.device) < p)[:, None], null, tokens)


@mistake("drop_captions")
def written_into_tokens(tokens, u, p, null):
    """You wrote into tokens: they belong to the caller, and the captions would be lost for good. Make a new tensor."""
    tokens[u < p] = null
    return tokens


@mistake("drop_captions")
def dropped_at_equal(tokens, u, p, null):
    """You drop where u <= p: with p = 0 and u = 0 a caption would go, and none should."""
    return torch.where((u <= p)[:, None], null, tokens)


def _halves(predict, z_t, context, negative):
    return predict(torch.cat([z_t, z_t]), torch.cat([negative.expand_as(context), context])).chunk(2)


@mistake("guided_guess")
def halves_swapped(predict, z_t, context, negative, scale):
    """You lead towards the negative prompt: guide takes the negative guess first, then the other."""
    if scale == 1:
        return predict(z_t, context)
    away, towards = _halves(predict, z_t, context, negative)
    return towards + scale * (away - towards)


@mistake("guided_guess")
def scale_off_by_one(predict, z_t, context, negative, scale):
    """You used 1 + scale, as papers with w do: here scale 1 is the prompt's own guess."""
    if scale == 1:
        return predict(z_t, context)
    away, towards = _halves(predict, z_t, context, negative)
    return towards + scale * (towards - away)


@mistake("guided_guess")
def two_calls(predict, z_t, context, negative, scale):
    """Your numbers are right, but you called the network twice: put both halves into one batch."""
    if scale == 1:
        return predict(z_t, context)
    away, towards = predict(z_t, negative.expand_as(context)), predict(z_t, context)
    return away + scale * (towards - away)


@mistake("guided_guess")
def always_both(predict, z_t, context, negative, scale):
    """At scale 1 you still pay for the negative half: call with the B rows only."""
    away, towards = _halves(predict, z_t, context, negative)
    return away + scale * (towards - away)


@mistake("guided_guess")
def latents_interleaved(predict, z_t, context, negative, scale):
    """Your latents and contexts do not match: repeat_interleave gives 0, 0, 1, 1, and torch.cat gives 0, 1, 0, 1."""
    if scale == 1:
        return predict(z_t, context)
    both = torch.cat([negative.expand_as(context), context])
    away, towards = predict(z_t.repeat_interleave(2, 0), both).chunk(2)
    return away + scale * (towards - away)


@mistake("guided_guess")
def contexts_subtracted(predict, z_t, context, negative, scale):
    """You guided the contexts: it is the guesses that are led, after the network was asked."""
    return predict(z_t, negative + scale * (context - negative))


@mistake("guided_guess")
def negative_ignored(predict, z_t, context, negative, scale):
    """You return the prompt's own guess, whatever the scale: the negative one is not used."""
    return predict(z_t, context)


@mistake("guided_guess")
def negative_taken_away(predict, z_t, context, negative, scale):
    """You took the negative guess off the scaled one: guide moves from the negative guess towards the other."""
    if scale == 1:
        return predict(z_t, context)
    away, towards = _halves(predict, z_t, context, negative)
    return scale * towards - away


@mistake("attention_maps")
def maps_not_turned(weights, height, width):
    """You reshaped without swapping places and words: reshape never reorders numbers, so transpose first."""
    return weights.mean(1).reshape(len(weights), -1, height, width)


@mistake("attention_maps")
def heads_summed(weights, height, width):
    """You summed over the heads: take their mean."""
    return weights.sum(1).transpose(1, 2).reshape(len(weights), -1, height, width)


@mistake("attention_maps")
def heads_maximum(weights, height, width):
    """You took the largest of the heads: take their mean."""
    return weights.amax(1).transpose(1, 2).reshape(len(weights), -1, height, width)


@mistake("attention_maps")
def one_head_alone(weights, height, width):
    """You kept the first head alone: take the mean of all."""
    return weights[:, 0].transpose(1, 2).reshape(len(weights), -1, height, width)


@mistake("attention_maps")
def sides_swapped(weights, height, width):
    """You swapped height and width: the places are counted row by row, so height comes first."""
    return weights.mean(1).transpose(1, 2).reshape(len(weights), -1, width, height)


@mistake("attention_maps")
def softmax_again(weights, height, width):
    """You took the softmax again: the weights have been through it."""
    return weights.softmax(-1).mean(1).transpose(1, 2).reshape(len(weights), -1, height, width)


@mistake("attention_maps")
def normed_over_places(weights, height, width):
    """You made each map add up to 1: it would no longer show which word got more than another."""
    maps = weights.mean(1).transpose(1, 2)
    return (maps / maps.sum(-1, keepdim=True)).reshape(len(weights), -1, height, width)


@mistake("predict_held_out")
def says_other_ink():
    """Not in most cases: look at the column for the ink in the table below, and compare the two lines."""
    return "other ink"


@mistake("predict_held_out")
def says_other_digit():
    """Not in most cases: look at the column for the digit in the table below, and compare the two lines."""
    return "other digit"


@mistake("predict_held_out")
def says_none_of_these():
    """Return one of the three texts that the question names."""
    return "nothing"
