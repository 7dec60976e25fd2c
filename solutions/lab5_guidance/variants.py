"""Right answers to lab5_guidance, written in other ways than the reference."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from labdiff.authoring import variant
from labdiff.reference import lab5_guidance as right


@variant("GuidedUNet")
class OneHot(right.GuidedUNet):
    """The row of the table by a product with a one-hot vector."""

    def forward(self, x, t, y):
        chosen = F.one_hot(y, self.null + 1).to(x.dtype) @ self.label.weight
        return right.walk(self, x, chosen + self.time_mlp(self.embed(t)))


@variant("GuidedUNet")
class WalkWrittenOut(right.GuidedUNet):
    """Lab 2's forward again, with the label in it."""

    def forward(self, x, t, y):
        emb = self.time_mlp(self.embed(t))
        emb = emb + F.embedding(y, self.label.weight)
        h = self.stem(x)
        skips = [h]
        for block in self.down:
            h = block(h, emb) if hasattr(block, "res") else block(h)
            skips.append(h)
        h = self.middle(h, emb)
        for block in self.up:
            h = block(torch.cat([h, skips.pop()], 1), emb) if hasattr(block, "res") else block(h)
        return self.head(h)


@variant("drop_labels")
def masked_copy(y, u, p, null):
    dropped = y.clone()
    dropped[u < p] = null
    return dropped


@variant("drop_labels")
def with_arithmetic(y, u, p, null):
    keep = (~(u < p)).long()
    return keep * y + (1 - keep) * null


@variant("drop_labels")
def masked_fill(y, u, p, null):
    return y.masked_fill(u.lt(p), null)


@variant("share_as_asked")
def counted(probabilities, y):
    said = probabilities.max(1).indices
    return sum(int(a == b) for a, b in zip(said.tolist(), y.tolist(), strict=True)) / len(y)


@variant("share_as_asked")
def asked_is_largest(probabilities, y):
    of_asked = probabilities[torch.arange(len(y), device=y.device), y]
    return (of_asked >= probabilities.amax(1)).double().mean()


@variant("guided_loss")
def written_out(model, x_0, y, t, eps, alphas_cumprod):
    abar_t = alphas_cumprod[t][:, None, None, None]
    signal, noise = abar_t**0.5, (1 - abar_t) ** 0.5
    said = model(signal * x_0 + noise * eps, t, y)
    return F.mse_loss(said.float(), signal * eps - noise * x_0)


@variant("guided_loss")
def image_by_image(model, x_0, y, t, eps, alphas_cumprod):
    total = 0.0
    for i in range(len(x_0)):
        abar = alphas_cumprod[t[i]]
        x_t = abar.sqrt() * x_0[i : i + 1] + (1 - abar).sqrt() * eps[i : i + 1]
        v = abar.sqrt() * eps[i : i + 1] - (1 - abar).sqrt() * x_0[i : i + 1]
        total = total + (v - model(x_t, t[i : i + 1], y[i : i + 1]).to(torch.float32)).pow(2).mean()
    return total / len(x_0)


@variant("label_gradient")
def difference_of_scores(eps_unconditional, eps_conditional, abar_t):
    noise = torch.sqrt(1 - abar_t)
    return -eps_conditional / noise - -eps_unconditional / noise


@variant("label_gradient")
def with_a_power(eps_unconditional, eps_conditional, abar_t):
    return (eps_unconditional - eps_conditional) * (1 - abar_t) ** -0.5


@variant("guide")
def weights_add_up_to_one(unconditional, conditional, scale):
    return (1 - scale) * unconditional + scale * conditional


@variant("guide")
def with_lerp(unconditional, conditional, scale):
    return torch.lerp(unconditional, conditional, float(scale))


@variant("guide")
def with_w(unconditional, conditional, scale):
    w = scale - 1
    return (1 + w) * conditional - w * unconditional


@variant("both_predictions")
def repeated(model, x_t, t, y, null):
    labels = torch.cat((y.new_full(y.shape, null), y), 0)
    said = model(x_t.repeat(2, 1, 1, 1), t.repeat(2), labels)
    return said[: len(y)], said[len(y) :]


@variant("both_predictions")
def conditional_half_first(model, x_t, t, y, null):
    labels = torch.cat([y, y * 0 + null])
    conditional, unconditional = model(torch.cat([x_t] * 2), torch.cat([t] * 2), labels).split(len(x_t))
    return unconditional, conditional


@variant("both_predictions")
def side_by_side(model, x_t, t, y, null):
    n = len(x_t)
    labels = torch.stack([torch.full_like(y, null), y], 1).flatten()  # (2B,), in turn
    said = model(x_t.repeat_interleave(2, 0), t.repeat_interleave(2, 0), labels).view(n, 2, *x_t.shape[1:])
    return [said[:, 0], said[:, 1]]


@variant("predict_scale_zero")
def any_by_name():
    return "any digit"


@variant("predict_scale_zero")
def any_by_exclusion():
    return next(c for c in ("sevens", "any digit", "anything but sevens") if "sevens" not in c)


@variant("manifold_radii")
def with_kthvalue(features, k):
    return torch.cdist(features, features).kthvalue(k + 1, dim=1).values


@variant("manifold_radii")
def without_the_diagonal(features, k):
    distance = (features[:, None] - features).norm(dim=2)
    distance.fill_diagonal_(torch.inf)
    return distance.topk(k, dim=0, largest=False).values[-1]


@variant("manifold_radii")
def point_by_point(features, k):
    radii = []
    for i, point in enumerate(features):
        others = torch.cat([features[:i], features[i + 1 :]])
        radii.append(sorted((others - point).square().sum(1).sqrt().tolist())[k - 1])
    return torch.tensor(radii, dtype=features.dtype, device=features.device)


@variant("share_inside")
def by_difference(points, centres, radii):
    slack = radii[None, :] - (points[:, None] - centres[None]).norm(dim=-1)
    return (slack.amax(1) >= 0).double().mean()


@variant("share_inside")
def counted_points(points, centres, radii):
    inside = 0
    for point in points:
        inside += bool(((centres - point).pow(2).sum(1).sqrt() <= radii).any())
    return inside / len(points)


@variant("predict_large_scale")
def recall_by_name():
    return "recall"


@variant("predict_large_scale")
def recall_by_exclusion():
    return ({"precision", "recall", "both"} - {"precision", "both"}).pop()


@variant("rescale_guidance")
def mixed_in_two(guided, conditional, rescale):
    flat = (len(guided), 1, 1, 1)
    wanted, has = conditional.flatten(1).std(1).view(flat), guided.flatten(1).std(1).view(flat)
    rescaled = guided * wanted / has
    return rescaled * rescale + guided * (1 - rescale)


@variant("rescale_guidance")
def with_lerp_of_factors(guided, conditional, rescale):
    def contrast(x):
        centred = x - x.mean(dim=(1, 2, 3), keepdim=True)
        return centred.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()

    factor = 1 + rescale * (contrast(conditional) / contrast(guided) - 1)
    return factor * guided


@variant("label_information")
def rising(gap, snr):
    return torch.trapezoid((snr * gap).flip(0), snr.log().flip(0)) / 2


@variant("label_information")
def in_numpy(gap, snr):
    x, height = np.log(snr.double().cpu().numpy()), (snr * gap).double().cpu().numpy()
    return float(np.sum((height[1:] + height[:-1]) * (x[:-1] - x[1:])) / 4)


@variant("label_information")
def in_a_loop(gap, snr):
    total, s, g = 0.0, snr.tolist(), gap.tolist()
    for i in range(len(s) - 1):
        total += (s[i] * g[i] + s[i + 1] * g[i + 1]) / 2 * math.log(s[i] / s[i + 1])
    return 0.5 * total


@variant("scale_at")
def product_of_tests(t, scale, low, high):
    inside = (t >= low) * (t <= high)
    return 1 + inside * (scale - 1)


@variant("scale_at")
def early_returns(t, scale, low, high):
    if t < low:
        return 1
    if t > high:
        return 1
    return float(scale)
