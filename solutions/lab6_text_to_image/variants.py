"""Right answers to lab6_text_to_image, written in other ways than the reference."""

import math

import torch
import torch.nn.functional as F

from labdiff.authoring import variant
from labdiff.reference import lab6_text_to_image as right


@variant("Encoder")
class EncoderStepByStep(right.Encoder):
    """In a loop, and by slices."""

    def forward(self, x):
        h = x
        for layer in (self.stem, self.block1, self.down, self.block2, self.block3, self.norm):
            h = layer(h)
        h = self.head(h * h.sigmoid())
        half = h.shape[1] // 2
        return h[:, :half], torch.clamp(h[:, half:], min=-20.0, max=10.0)


@variant("Encoder")
class EncoderSplit(right.Encoder):
    """By split, as a list, and one picture at a time."""

    def forward(self, x):
        made = []
        for one in x:
            h = self.block1(self.stem(one[None]))
            h = torch.nn.Sequential(self.down, self.block2, self.block3, self.norm, torch.nn.SiLU(), self.head)(h)
            made.append(h)
        h = torch.cat(made)
        mean, log_variance = h.split(h.shape[1] // 2, dim=1)
        return [mean, log_variance.minimum(h.new_tensor(10.0)).maximum(h.new_tensor(-20.0))]


@variant("Decoder")
class DecoderInALoop(right.Decoder):
    """All layers in a row."""

    def forward(self, z):
        layers = (self.stem, self.block1, self.block2, self.up, self.block3, self.block4, self.norm, F.silu, self.head)
        for layer in layers:
            z = layer(z)
        return z


@variant("Decoder")
class DecoderSequential(right.Decoder):
    """As one Sequential."""

    def forward(self, z):
        low = torch.nn.Sequential(self.stem, self.block1, self.block2)
        high = torch.nn.Sequential(self.up, self.block3, self.block4, self.norm, torch.nn.SiLU(), self.head)
        return high(low(z))


@variant("reparameterise")
def by_addcmul(mean, log_variance, noise):
    return torch.addcmul(mean, torch.exp(0.5 * log_variance), noise)


@variant("reparameterise")
def by_the_variance(mean, log_variance, noise):
    return noise * torch.sqrt(torch.exp(log_variance)) + mean


@variant("kl_divergence")
def by_distributions(mean, log_variance):
    normal = torch.distributions.Normal
    cloud = normal(mean, (log_variance / 2).exp())
    return torch.distributions.kl_divergence(cloud, normal(torch.zeros_like(mean), torch.ones_like(mean))).mean()


@variant("kl_divergence")
def term_by_term(mean, log_variance):
    return -(1 + log_variance - mean**2 - torch.exp(log_variance)).sum() / (2 * mean.numel())


@variant("latent_scale")
def by_hand(latents):
    centred = latents - latents.mean()
    return centred.square().mean().rsqrt()


@variant("latent_scale")
def as_a_number(latents):
    return 1.0 / math.sqrt(latents.flatten().var(unbiased=True).item())


@variant("decode_latents")
def by_min_and_max(decoder, z, scale):
    return torch.minimum(torch.maximum(decoder(z * (1 / scale)), -torch.ones_like(z[:1, :1, :1, :1])), z.new_ones(1))


@variant("decode_latents")
def by_hardtanh(decoder, z, scale):
    return F.hardtanh(decoder(torch.div(z, scale)))


@variant("predict_random_latent")
def patches_by_name():
    return "patches"


@variant("predict_random_latent")
def patches_by_exclusion():
    return ("digits", "patches", "one colour")[1]


@variant("tokenise")
def with_a_dictionary(text, words=right.WORDS, length=right.LENGTH):
    number = {word: i for i, word in enumerate(words)}
    ids = [number["<start>"]]
    for word in text.replace(",", " ").lower().split():
        if word not in number:
            raise ValueError(f"I do not know {word}.")
        ids.append(number[word])
    if len(ids) > length:
        raise ValueError(f"too many words: {len(ids) - 1}")
    while len(ids) < length:
        ids.append(number["<pad>"])
    return ids


@variant("tokenise")
def written_over(text, words=right.WORDS, length=right.LENGTH):
    ids = [list(words).index("<pad>")] * length
    ids[0] = list(words).index("<start>")
    found = [word.strip() for part in text.casefold().split(",") for word in part.split()]
    strangers = [word for word in found if word not in words]
    if strangers:
        raise ValueError("unknown: " + ", ".join(strangers))
    if len(found) > length - 1:
        raise ValueError("The prompt is too long.")
    for i, word in enumerate(found, start=1):
        ids[i] = list(words).index(word)
    return tuple(ids)


@variant("TextEncoder")
class LayerByLayer(right.TextEncoder):
    """The transformer's layers one after the other."""

    def forward(self, tokens):
        h = F.embedding(tokens, self.token.weight) + self.position[None, : tokens.shape[1]]
        for layer in self.layers.layers:
            h = layer(h)
        return self.norm(h)


@variant("TextEncoder")
class PromptByPrompt(right.TextEncoder):
    """One prompt at a time."""

    def forward(self, tokens):
        return torch.stack([self.norm(self.layers((self.position + self.token(one))[None])[0]) for one in tokens])


@variant("CrossAttention")
class ByChunks(right.CrossAttention):
    """Keys and values by chunk, heads by unflatten."""

    def forward(self, x, context):
        k, v = self.kv(context).chunk(2, dim=-1)
        k, v = (w.unflatten(-1, (self.heads, -1)).permute(0, 2, 3, 1) for w in (k, v))
        q = self.q(self.norm(x)).flatten(2).unflatten(1, (self.heads, -1))
        h = self.attend(q, k, v)[0]
        return self.out(h.flatten(1, 2).unflatten(-1, x.shape[-2:])) + x


@variant("CrossAttention")
class HeadAfterHead(right.CrossAttention):
    """One head at a time."""

    def forward(self, x, context):
        B, C, H, W = x.shape
        d = C // self.heads
        q, kv = self.q(self.norm(x)).reshape(B, C, H * W), self.kv(context).mT
        found = []
        for i in range(self.heads):
            part = slice(i * d, (i + 1) * d)
            k, v = kv[:, :C][:, part], kv[:, C:][:, part]
            found.append(self.attend(q[:, None, part], k[:, None], v[:, None])[0][:, 0])
        return x + self.out(torch.cat(found, 1).reshape(B, C, H, W))


@variant("TextStage")
class ThroughSuper(right.TextStage):
    """By the stage that it derives from."""

    def forward(self, x, told):
        return self.cross(super(right.TextStage, self).forward(x, told[0]), told[1])


@variant("TextStage")
class OneAfterTheOther(right.TextStage):
    """Step by step, with the pair by index."""

    def forward(self, x, told):
        h = self.res(x, told[0])
        h = self.attn(h)
        h = self.cross(h, told[1])
        return h


@variant("latent_loss")
def formulas_written_out(model, z_0, tokens, t, eps, abar_t):
    a, s = abar_t.sqrt(), (1 - abar_t).sqrt()
    return (model(a * z_0 + s * eps, t, tokens) - (a * eps - s * z_0)).pow(2).mean()


@variant("latent_loss")
def mean_of_means(model, z_0, tokens, t, eps, abar_t):
    z_t = torch.sqrt(abar_t) * z_0 + torch.sqrt(1 - abar_t) * eps
    v = torch.sqrt(abar_t) * eps - torch.sqrt(1 - abar_t) * z_0
    per_latent = (v - model(z_t, t, tokens)).square().flatten(1).mean(1)
    return per_latent.sum() / len(per_latent)


@variant("latent_loss")
def what_the_model_is_told_by_name(model, z_0, tokens, t, eps, abar_t):
    v = model(z_t=abar_t.sqrt() * z_0 + (1 - abar_t).sqrt() * eps, t=t, tokens=tokens)
    return (v - abar_t.sqrt() * eps + (1 - abar_t).sqrt() * z_0).square().mean()


@variant("drop_captions")
def in_a_copy(tokens, u, p, null):
    dropped = tokens.clone()
    dropped[u < p] = null
    return dropped


@variant("drop_captions")
def row_by_row(tokens, u, p, null):
    return torch.stack([null if chance < p else row for row, chance in zip(tokens, u, strict=True)])


@variant("guided_guess")
def repeated(predict, z_t, context, negative, scale):
    if scale != 1:
        n = len(z_t)
        if len(negative) == 1:
            negative = negative.repeat(n, 1, 1)
        made = predict(z_t.repeat(2, 1, 1, 1), torch.cat((negative, context), dim=0))
        return made[:n] * (1 - scale) + made[n:] * scale
    return predict(z_t, context)


@variant("guided_guess")
def prompts_first(predict, z_t, context, negative, scale):
    if float(scale) == 1.0:
        return predict(z_t, context)
    words = torch.cat([context, negative + torch.zeros_like(context)])
    towards, away = torch.tensor_split(predict(torch.cat([z_t, z_t]), words), 2)
    return torch.lerp(away, towards, scale)


@variant("attention_maps")
def by_einsum(weights, height, width):
    maps = torch.einsum("bhnl->bln", weights) / weights.shape[1]
    return maps.unflatten(-1, (height, width))


@variant("attention_maps")
def places_first(weights, height, width):
    B, heads, _, L = weights.shape
    return weights.reshape(B, heads, height, width, L).permute(0, 4, 1, 2, 3).mean(2)


@variant("predict_held_out")
def asked_by_name():
    return "as asked"


@variant("predict_held_out")
def asked_by_exclusion():
    return next(choice for choice in ("other ink", "as asked", "other digit") if not choice.startswith("other"))
