"""What lab6_text_to_image asks: an autoencoder, a text encoder, cross-attention, latent diffusion."""

import torch

from labdiff.exercises import Lab
from labdiff.exercises.draw import given_weights, parameter_shapes
from labdiff.exercises.parts import (
    attend,
    attend_doubled,
    batch_of_one,
    float64,
    mix,
    names_of_parameters,
    noted,
    returned,
    whole,
    with_layers,
)
from labdiff.pictures import vocabulary

LAB = Lab("lab6_text_to_image", "Text to image")


@LAB.exercise(
    points=2,
    minutes=8,
    difficulty=2,
    inputs=lambda draw: {
        "x": draw.images(2, channels=3),
        "wide": draw.images(2, 4, 12, channels=3),
        "grey": draw.images(2, channels=1),
        "seed": draw.seed(),
    },
    hints=(
        "Call the layers in the order of the constructor. What comes out of the head has twice as many channels as a "
        "latent: the first half is one result, the second half the other.",
        "h = self.block3(self.block2(self.down(self.block1(self.stem(x))))), then norm, SiLU, head. chunk(2, dim=1) "
        "halves the channels; clamp the second half.",
        "mean, log_variance = self.head(F.silu(self.norm(h))).chunk(2, dim=1); return mean, "
        "log_variance.clamp(-20, 10)",
    ),
    rtol=1e-3,
)
def Encoder(answer, x, wide, grey, seed):
    """Encoder(in_channels, channels, latent_channels)(x) -> mean, log variance, each (B, latent, H / 4, W / 4)"""
    layers = ("stem", "block1", "down", "block2", "block3", "norm", "head")

    def run(images, in_channels=3, channels=8, latent_channels=2, louder=1.0):
        module = with_layers(answer(in_channels, channels, latent_channels), *layers)
        given_weights(module, seed).to(images.device)
        with torch.no_grad():
            module.head.weight.mul_(louder)
        return module(images)

    return {
        "two pictures": lambda: run(x),
        "a batch of one": batch_of_one(run, x),
        "pictures that are not square": lambda: run(wide),
        "grey pictures, other widths": lambda: run(grey, in_channels=1, channels=16, latent_channels=3),
        "wild log variances": lambda: run(x, louder=100.0),
        "the names of the parameters": lambda: names_of_parameters(answer(3, 8, 2), seed, x),
    }


@LAB.exercise(
    points=2,
    minutes=6,
    difficulty=1,
    inputs=lambda draw: {"z": draw.normal(2, 2, 3, 3), "wide": draw.normal(2, 3, 1, 4), "seed": draw.seed()},
    hints=(
        "Call the layers in the order of the constructor, each with what the one before returned.",
        "h = self.block2(self.block1(self.stem(z))), then up, block3 and block4. At the end norm, SiLU, head.",
        "h = self.block4(self.block3(self.up(h))); return self.head(F.silu(self.norm(h)))",
    ),
    rtol=1e-3,
)
def Decoder(answer, z, wide, seed):
    """Decoder(out_channels, channels, latent_channels)(z) -> (B, out_channels, 4 H, 4 W)"""
    layers = ("stem", "block1", "block2", "up", "block3", "block4", "norm", "head")

    def run(latents, out_channels=3, channels=8, latent_channels=2, louder=1.0):
        module = with_layers(answer(out_channels, channels, latent_channels), *layers)
        given_weights(module, seed).to(latents.device)
        with torch.no_grad():
            module.head[0].weight.mul_(louder)
        return module(latents)

    return {
        "two latents": lambda: run(z),
        "a batch of one": batch_of_one(run, z),
        "latents that are not square": lambda: run(wide, latent_channels=3),
        "grey pictures": lambda: run(z, out_channels=1),
        "pixels beyond [-1, 1]": lambda: run(z, louder=10.0),
        "the names of the parameters": lambda: names_of_parameters(answer(3, 8, 2), seed, z),
    }


def _gaussian(draw):
    return {
        "mean": draw.normal(3, 2, 4, 4),
        "log_variance": draw.uniform(3, 2, 4, 4, low=-3, high=1.5),
        "noise": draw.normal(3, 2, 4, 4),
        "wide": draw.normal(2, 3, 2, 6),
    }


@LAB.exercise(
    points=1,
    minutes=4,
    difficulty=1,
    inputs=_gaussian,
    hints=(
        "Mean plus deviation times noise. You have the logarithm of the variance; what is half of a logarithm the "
        "logarithm of?",
        "The deviation is the root of the variance, and a root halves the logarithm.",
        "return mean + (log_variance / 2).exp() * noise",
    ),
)
def reparameterise(answer, mean, log_variance, noise, wide):
    """reparameterise(mean, log_variance, noise) -> the shape of mean"""

    def slope():
        level = log_variance.clone().requires_grad_()
        drawn = returned(answer(mean, level, noise))
        if not isinstance(drawn, torch.Tensor) or not drawn.requires_grad:
            return "no gradient reaches the log variance"
        return torch.autograd.grad(drawn.sum(), level)[0]

    return {
        "three latents": lambda: answer(mean, log_variance, noise),
        "a batch of one": batch_of_one(answer, mean, log_variance, noise),
        "latents that are not square": lambda: answer(wide, -wide.abs(), wide.flip(-1)),
        "float64": float64(answer, mean, log_variance, noise),
        "no noise": lambda: answer(mean, log_variance, noise * 0),
        "the gradient of the log variance": slope,
    }


@LAB.exercise(
    points=2,
    minutes=10,
    difficulty=2,
    inputs=_gaussian,
    hints=(
        "Take the mean of ln q - ln p by the two facts above the stub. Four terms are left: two hold the "
        "variance or its "
        "logarithm, one the mean, one is a number.",
        "Half of: the mean squared, plus the variance, minus 1, minus the log variance. Then the average over "
        "all numbers "
        "of the batch.",
        "return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()",
    ),
)
def kl_divergence(answer, mean, log_variance, noise, wide):
    """kl_divergence(mean, log_variance) -> a scalar tensor"""

    def gradients():
        parts = [part.clone().requires_grad_() for part in (mean, log_variance)]
        divergence = returned(answer(*parts))
        if not isinstance(divergence, torch.Tensor) or not divergence.requires_grad:
            return "no gradient reaches the encoder"
        return torch.autograd.grad(divergence, parts)

    return {
        "three latents": lambda: answer(mean, log_variance),
        "a batch of one": batch_of_one(answer, mean, log_variance),
        "latents that are not square": lambda: answer(wide, wide.flip(-1)),
        "float64": float64(answer, mean, log_variance),
        "the standard normal itself": lambda: answer(mean * 0, log_variance * 0),
        "small variances": lambda: answer(mean / 10, log_variance - 6),
        "the gradients": gradients,
    }


@LAB.exercise(
    points=1,
    minutes=4,
    difficulty=1,
    inputs=lambda draw: {
        "latents": (draw.normal(5, 4, 8, 8) + draw.uniform(5, 4, 1, 1, low=0.5, high=2.5)) * draw.number(1.5, 4),
        "wide": draw.normal(4, 3, 8, 12) / 5 + draw.number(0.5, 1.5),
    },
    hints=(
        "By which number must values be multiplied so that their deviation becomes 1?",
        "latents.std() is the deviation over all numbers, about their mean. You need its inverse.",
        "return 1 / latents.std()",
    ),
    rtol=2e-3,  # so that a deviation that divides by N passes too
)
def latent_scale(answer, latents, wide):
    """latent_scale(latents) -> a number"""
    return {
        "five latents": lambda: answer(latents),
        "a batch of one": batch_of_one(answer, latents),
        "small numbers, not square": lambda: answer(wide),
        "float64": float64(answer, latents),
    }


def _toy_decoder(z):
    """Something that enlarges as a decoder does; it is not linear, and it leaves [-1, 1]."""
    h = 1.7 * torch.sin(z) + 0.2 * z.flip(1)  # (B, C, H, W)
    return h.repeat_interleave(2, -1).repeat_interleave(2, -2)


@LAB.exercise(
    points=1,
    minutes=3,
    difficulty=1,
    inputs=lambda draw: {
        "z": draw.normal(3, 3, 4, 4),
        "scale": draw.number(0.3, 0.6),
        "large": draw.number(1.5, 2.5),
        "wide": draw.normal(2, 3, 2, 6),
    },
    hints=(
        "The latent was multiplied by the scale. What must happen to it before the decoder sees it?",
        "Divide by the scale, decode, then cut the pixels.",
        "return decoder(z / scale).clamp(-1, 1)",
    ),
)
def decode_latents(answer, z, scale, large, wide):
    """decode_latents(decoder, z, scale) -> pictures in [-1, 1]"""
    return {
        "a scale below 1": lambda: answer(_toy_decoder, z, scale),
        "a scale above 1": lambda: answer(_toy_decoder, z, large),
        "a batch of one": batch_of_one(answer, _toy_decoder, z, scale),
        "latents that are not square": lambda: answer(_toy_decoder, wide, large),
        "the scale as a tensor": lambda: answer(_toy_decoder, z, torch.full((), scale, device=z.device)),
    }


LAB.prediction(
    "predict_random_latent",
    ("digits", "patches", "one colour"),
    (
        "In a real latent the numbers of neighbouring places have to do with each other: a stroke goes on, a "
        "ground is of "
        "one colour. And in independent noise?",
        "The decoder makes of each place what it stands for, stroke or ground of some colour. Nothing makes the places "
        "agree with each other.",
        "Each place gets a colour of its own, so neither a digit nor a single colour comes out.",
    ),
)


_LEXICON = ("amber", "brick", "cyan", "dim", "ecru", "faded", "gold", "hazel", "ivory", "jade", "khaki", "7")


def _sentences(draw):
    """A vocabulary in an order of its own, with the special words anywhere but at its beginning, and some prompts."""
    order = [_LEXICON[i] for i in draw.stream.permutation(len(_LEXICON))]
    for special in ("<pad>", "<start>"):
        order.insert(draw.integer(2, len(order)), special)
    chosen = [_LEXICON[i] for i in draw.stream.permutation(len(_LEXICON))]
    known = vocabulary()
    caption = " ".join(known[i] for i in draw.stream.permutation(len(known))[:7])
    return {"words": tuple(order), "chosen": chosen, "caption": caption}


@LAB.exercise(
    points=3,
    minutes=12,
    difficulty=2,
    inputs=_sentences,
    hints=(
        "Four steps: make a list of lower-case words, complain about words that are not in the vocabulary, put "
        '"<start>" '
        "in front and look the numbers up, fill up.",
        "words.index(word) is a word's number. Check `word not in words` before, and raise a ValueError with "
        "the word in "
        "it. Check the length before you fill up.",
        'ids = [words.index(word) for word in ["<start>", *found]]; '
        'return ids + [words.index("<pad>")] * (length - len(ids))',
    ),
)
def tokenise(answer, words, chosen, caption):
    """tokenise(text, words, length) -> a list of ints"""

    def tokens(*given):
        return whole(answer(*given), "a token")

    def refused(text, length, named=""):
        try:
            said = answer(text, words, length)
        except ValueError as error:
            if named and named not in str(error).lower():
                return "a ValueError whose message does not hold the word"
            return "a ValueError"
        return f"no ValueError, but {returned(said)}"

    def same_list():
        first = answer(" ".join(chosen[:2]), words, 6)
        second = answer(" ".join(chosen[:2]), words, 6)
        return whole(first, "a token"), whole(second, "a token")

    return {
        "four words": lambda: tokens(" ".join(chosen[:4]), words, 8),
        "a word twice": lambda: tokens(" ".join([chosen[0], chosen[1], chosen[0]]), words, 7),
        "capital letters": lambda: tokens(" ".join(chosen[2:5]).upper(), words, 6),
        "commas": lambda: tokens(f"{chosen[5]}, {chosen[6]},{chosen[7]}", words, 6),
        "the empty prompt": lambda: tokens("", words, 5),
        "as many words as fit": lambda: tokens(" ".join(chosen[:5]), words, 6),
        "one word too many": lambda: refused(" ".join(chosen[:6]), 6),
        "many words too many": lambda: refused(" ".join(chosen[:9]), 6),
        "a word that is not in the vocabulary": lambda: refused(f"{chosen[0]} zebra {chosen[1]}", 8, "zebra"),
        "asked twice": same_list,
        "a caption, and the lab's own vocabulary and length": lambda: tokens(caption),
    }


@LAB.exercise(
    points=2,
    minutes=6,
    difficulty=1,
    inputs=lambda draw: {"tokens": torch.stack([draw.timesteps(5, 9), draw.timesteps(5, 9)]), "seed": draw.seed()},
    hints=(
        "Look the words up, tell them their places, let them look at each other, norm.",
        "self.token(tokens) is (B, L, width) and self.position is (L, width): they can be added as they are. Then "
        "self.layers, then self.norm.",
        "return self.norm(self.layers(self.token(tokens) + self.position))",
    ),
    rtol=1e-3,
)
def TextEncoder(answer, tokens, seed):
    """TextEncoder(words, length, width, layers, heads)(tokens) -> (B, length, width)"""

    def build(length=5, layers=1):
        module = answer(words=9, length=length, width=8, layers=layers, heads=2)
        return given_weights(with_layers(module, "token", "position", "layers", "norm"), seed).to(tokens.device)

    return {
        "two prompts": lambda: build()(tokens),
        "a batch of one": lambda: build()(tokens[:1]),
        "the same words in another order": lambda: build()(tokens.flip(1)),
        "a prompt with the words 0 and 1": lambda: build()(torch.cat([tokens[:, :1] * 0 + 1, tokens[:, 1:] * 0], 1)),
        "two layers, shorter prompts": lambda: build(length=3, layers=2)(tokens[:, :3]),
        "the names of the parameters": lambda: names_of_parameters(answer(9, 5, 8, 1, 2), seed, tokens),
    }


@LAB.exercise(
    points=3,
    minutes=12,
    difficulty=3,
    inputs=lambda draw: {
        "x": draw.normal(2, 8, 3, 4),
        "context": draw.normal(2, 5, 6),
        "square": draw.normal(2, 12, 6),
        "seed": draw.seed(),
    },
    hints=(
        "Queries from the map, as in lab 2's self-attention. Keys and values from the words; look at the order of axes "
        "in self.kv(context) and in what attend wants.",
        "q = self.q(self.norm(x)).reshape(B, self.heads, C // self.heads, H * W). For the words: transpose(1, "
        "2) first, "
        "then reshape to (B, 2, self.heads, C // self.heads, L), then unbind(1).",
        "k, v = self.kv(context).transpose(1, 2).reshape(B, 2, self.heads, C // self.heads, -1).unbind(1); "
        "h, _ = self.attend(q, k, v); return x + self.out(h.reshape(B, C, H, W))",
    ),
    rtol=1e-3,
)
def CrossAttention(answer, x, context, square, seed):
    """CrossAttention(channels, context_channels, heads, groups)(x, context) -> the shape of x"""

    def run(images, words, heads, attend=attend):
        module = with_layers(answer(8, 6, heads=heads, groups=2), "norm", "q", "kv", "out")
        module = given_weights(module, seed).to(images.device)
        module.attend = attend
        return module(images, words)

    def names():
        run(x, context, 2)
        return parameter_shapes(answer(8, 6, heads=2, groups=2))

    return {
        "two heads": lambda: run(x, context, 2),
        "a batch of one": batch_of_one(run, x, context, 2),
        "a single head": lambda: run(x, context, 1),
        "as many words as places": lambda: run(x, square, 2),
        "four heads, a single place": lambda: run(x[..., :1, :1], context, 4),
        "a single word": lambda: run(x, context[:, :1], 2),
        "another function as self.attend": lambda: run(x, context, 2, attend=attend_doubled),
        "the names of the parameters": names,
    }


@LAB.exercise(
    points=2,
    minutes=5,
    difficulty=1,
    inputs=lambda draw: {
        "x": draw.normal(2, 8, 3, 4),
        "emb": draw.normal(2, 12),
        "context": draw.normal(2, 5, 6),
    },
    hints=(
        "Take the pair apart. Which of the parts needs the time, and which the words?",
        "emb, context = told. The block learns the time, self-attention takes the map alone, cross-attention "
        "comes last.",
        "return self.cross(self.attn(self.res(x, emb)), context)",
    ),
)
def TextStage(answer, x, emb, context):
    """TextStage(stage, context_channels, heads)(x, (emb, context)) -> (B, out, H, W)"""

    def build(out, heads):
        """The stage, with known functions in place of what its parts compute."""
        from labdiff.reference.lab2_unet import Stage  # where lab 6 is asked, lab 2's answers are at hand

        stage = answer(Stage(8, out, 12, heads), 6, 2).to(x.device)
        with_layers(stage, "res", "attn", "cross")

        def res(h, time):
            return torch.tanh(mix("res", h, out) + mix("time", time[:, :, None, None], out))

        def cross(h, words):
            return h.sin() + mix("words", words.mean(1)[:, :, None, None], out) * h

        stage.res.forward, stage.cross.forward = res, cross
        if heads:
            stage.attn.forward = lambda h: h + torch.tanh(mix("attn", h, out)).mean((2, 3), keepdim=True)
        return stage

    return {
        "with self-attention": lambda: build(16, 2)(x, (emb, context)),
        "without self-attention": lambda: build(16, 0)(x, (emb, context)),
        "as many channels out as in": lambda: build(8, 2)(x, (emb, context)),
        "a batch of one": lambda: build(8, 0)(x[:1], (emb[:1], context[:1])),
        "the pair as a list": lambda: build(8, 2)(x, [emb, context]),
    }


def _calls(rows):
    """How often a network was asked, and about how many rows each time, as a text."""
    return ", ".join(f"a call with {n} row{'s' * (n > 1)}" for n in rows) or "no call"


def _toy_model(z_t, t, tokens):
    """A network whose answer depends on all that it is given; it is not linear."""
    told = (tokens.to(z_t.dtype) * torch.arange(1, tokens.shape[1] + 1, device=z_t.device)).sum(1).sin()  # (B,)
    time = (t.to(z_t.dtype) / 300 + 1).cos()  # (B,)
    return torch.tanh(z_t * (1 + time)[:, None, None, None] + told[:, None, None, None]) * 0.7


@LAB.exercise(
    points=2,
    minutes=6,
    difficulty=2,
    inputs=lambda draw: {
        "z_0": 1.5 * draw.normal(3, 4, 4, 4),
        "tokens": draw.integers(0, 20, 3, 5),
        "t": draw.timesteps(3, 1000),
        "eps": draw.normal(3, 4, 4, 4),
        "abar_t": draw.uniform(3, 1, 1, 1, low=0.1, high=0.9),
        "wide": draw.normal(2, 4, 2, 6),
    },
    hints=(
        "As in lab 3: make the latent noisy, ask the network, compare with the target. What does this network predict?",
        "z_t = q_sample(z_0, abar_t, eps). The network is told t and the tokens. The target is v_target(z_0, "
        "eps, abar_t).",
        "return F.mse_loss(model(q_sample(z_0, abar_t, eps), t, tokens), v_target(z_0, eps, abar_t))",
    ),
)
def latent_loss(answer, z_0, tokens, t, eps, abar_t, wide):
    """latent_loss(model, z_0, tokens, t, eps, abar_t) -> a scalar tensor"""

    def calls():
        seen: list[int] = []
        counted = noted(_toy_model, seen, lambda z_t, t, tokens: len(z_t))
        returned(answer(counted, z_0, tokens, t, eps, abar_t))
        return _calls(seen)

    def gradient():
        strength = z_0.new_tensor(1.0).requires_grad_()
        loss = returned(
            answer(lambda *given, **named: strength * _toy_model(*given, **named), z_0, tokens, t, eps, abar_t)
        )
        if not isinstance(loss, torch.Tensor) or not loss.requires_grad:
            return "no gradient reaches the network"
        return torch.autograd.grad(loss, strength)[0]

    return {
        "three latents": lambda: answer(_toy_model, z_0, tokens, t, eps, abar_t),
        "a batch of one": batch_of_one(answer, _toy_model, z_0, tokens, t, eps, abar_t),
        "latents that are not square": lambda: answer(_toy_model, wide, tokens[:2], t[:2], wide.flip(-1), abar_t[:2]),
        "hardly any noise": lambda: answer(_toy_model, z_0, tokens, t, eps, abar_t * 0 + 0.999),
        "float64": float64(answer, _toy_model, z_0, tokens, t, eps, abar_t),
        "the network is asked once": calls,
        "the gradient": gradient,
    }


@LAB.exercise(
    points=1,
    minutes=5,
    difficulty=2,
    inputs=lambda draw: {
        "tokens": draw.integers(2, 40, 8, 5),
        "u": torch.cat([draw.uniform(4, low=0.05, high=0.4), draw.uniform(4, low=0.6, high=0.95)])[
            torch.from_numpy(draw.stream.permutation(8))
        ],
        "null": draw.integers(2, 40, 5),
    },
    hints=(
        "Decide for each caption, by its u. Where it is dropped, the whole row becomes null.",
        "torch.where(condition, null, tokens) does it, if the condition has the shape (B, 1): then it holds "
        "for all words "
        "of a caption.",
        "return torch.where((u < p)[:, None], null, tokens)",
    ),
)
def drop_captions(answer, tokens, u, null):
    """drop_captions(tokens, u, p, null) -> (B, L), int64"""
    return {
        "half of eight": lambda: answer(tokens, u, 0.5, null),
        "a batch of one": lambda: answer(tokens[:1], u[:1] * 0 + 0.2, 0.3, null),
        "as many captions as words": lambda: answer(tokens[:5], u[:5], 0.5, null),
        "p = 0": lambda: answer(tokens, u * (u > 0.5), 0.0, null),
        "p = 1": lambda: answer(tokens, u, 1.0, null),
    }


@LAB.exercise(
    points=3,
    minutes=10,
    difficulty=2,
    inputs=lambda draw: {
        "z_t": draw.normal(3, 4, 4, 4),
        "context": draw.normal(3, 5, 6),
        "empty": draw.normal(1, 5, 6),
        "negatives": draw.normal(3, 5, 6),
        "scale": draw.number(2, 6),
    },
    hints=(
        "Make a batch twice as long: every latent twice, once with its negative and once with its prompt. What "
        "comes back "
        "has to be taken apart in the same order.",
        "torch.cat([negative.expand_as(context), context]) goes with torch.cat([z_t, z_t]); chunk(2) gives the two "
        "guesses, the negative one first. guide does the rest. At scale 1 one guess is enough.",
        "away, towards = predict(torch.cat([z_t, z_t]), torch.cat([negative.expand_as(context), context])).chunk(2); "
        "return guide(away, towards, scale)",
    ),
)
def guided_guess(answer, z_t, context, empty, negatives, scale):
    """guided_guess(predict, z_t, context, negative, scale) -> the shape of z_t"""

    def predict(z, words):
        told = (words * torch.linspace(0.2, 1, words.shape[1], device=z.device)[:, None]).mean((1, 2))  # (B,)
        return torch.tanh(z + 3 * told[:, None, None, None]) + told[:, None, None, None]

    def asked(negative, scale):
        seen: list[int] = []
        counted = noted(predict, seen, lambda z, words: len(z))
        returned(answer(counted, z_t, context, negative, scale))
        return _calls(seen)

    return {
        "each with its own negative prompt": lambda: answer(predict, z_t, context, negatives, scale),
        "one empty prompt for all": lambda: answer(predict, z_t, context, empty, scale),
        "a batch of one": batch_of_one(answer, predict, z_t, context, empty, scale),
        "scale 1": lambda: answer(predict, z_t, context, empty, 1),
        "scale 1, a batch of one": lambda: answer(predict, z_t[:1], context[:1], empty, 1.0),
        "scale 0": lambda: answer(predict, z_t, context, empty, 0.0),
        "one call, of twice the batch": lambda: asked(empty, scale),
        "at scale 1 one call, of the batch itself": lambda: asked(empty, 1.0),
    }


@LAB.exercise(
    points=2,
    minutes=5,
    difficulty=2,
    inputs=lambda draw: {
        "weights": draw.normal(2, 3, 12, 5).softmax(-1),
        "square": draw.normal(2, 2, 9, 9).softmax(-1),
    },
    hints=(
        "First one weight per place and word, over all heads. Then the words must come before the places.",
        "weights.mean(1) is (B, N, L). Swap the last two axes, then split N into height and width.",
        "return weights.mean(1).transpose(1, 2).reshape(len(weights), -1, height, width)",
    ),
)
def attention_maps(answer, weights, square):
    """attention_maps(weights, height, width) -> (B, L, height, width)"""
    return {
        "3 by 4 places, five words": lambda: answer(weights, 3, 4),
        "a batch of one": batch_of_one(answer, weights, 3, 4),
        "a single head": lambda: answer(weights[:, :1], 4, 3),
        "as many words as places": lambda: answer(square, 3, 3),
        "float64": float64(answer, weights, 2, 6),
    }


LAB.prediction(
    "predict_held_out",
    ("as asked", "other ink", "other digit"),
    (
        "The network never saw this pair. But it saw both words, each with many others. Where in the network does the "
        "word for the ink act, and does the digit matter there?",
        "Ink and digit come as separate words, with separate vectors. A stroke is coloured in much the same "
        "way whatever "
        "its shape.",
        "What was learned apart can be put together: expect what the prompt says.",
    ),
)


LAB.written("why_cross_attention", points=2)
