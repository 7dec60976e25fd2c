"""Wrong answers that people give in lab5_guidance; the docstring of each is the hint."""

import torch

from labdiff.authoring import mistake
from labdiff.reference import lab5_guidance as right


class _Net(right.GuidedUNet):
    """The right forward in parts, of which each mistake replaces one."""

    def vector(self, t, y):
        return self.time_mlp(self.embed(t)) + self.label(y)

    def forward(self, x, t, y):
        return right.walk(self, x, self.vector(t, y))


@mistake("GuidedUNet")
class LabelForgotten(_Net):
    """Your network never looks at y: add self.label(y) to the time vector."""

    def vector(self, t, y):
        return self.time_mlp(self.embed(t))


@mistake("GuidedUNet")
class TimeForgotten(_Net):
    """Your network no longer knows the time: the label's vector is added to the time's, it does not replace it."""

    def vector(self, t, y):
        return self.label(y)


@mistake("GuidedUNet")
class Multiplied(_Net):
    """You multiplied the two vectors: they are added. Label vectors of 0 would erase the time."""

    def vector(self, t, y):
        return self.time_mlp(self.embed(t)) * self.label(y)


@mistake("GuidedUNet")
class LabelAsTime(_Net):
    """You sent y through the embedding of the time: labels have a table of their own, self.label."""

    def vector(self, t, y):
        return self.time_mlp(self.embed(t)) + self.time_mlp(self.embed(y))


@mistake("GuidedUNet")
class AddedBeforeTheMLP(_Net):
    """You added the label to the sinusoids, which are shorter vectors: add it to what self.time_mlp returns."""

    def vector(self, t, y):
        return self.time_mlp(self.embed(t) + self.label(y))


@mistake("GuidedUNet")
class TimeAndLabelSwapped(_Net):
    """You swapped the two: self.embed takes the time t, and self.label the label y."""

    def vector(self, t, y):
        return self.time_mlp(self.embed(y)) + self.label(t)


@mistake("GuidedUNet")
class OneLabelForAll(_Net):
    """You gave the first label to the whole batch: self.label(y) has a row for each image."""

    def vector(self, t, y):
        return self.time_mlp(self.embed(t)) + self.label(y[:1])


@mistake("GuidedUNet")
class LabelAsNumber(_Net):
    """You added the number y itself: seven is not seven times one. self.label(y) looks up its vector."""

    def vector(self, t, y):
        return self.time_mlp(self.embed(t)) + y[:, None]


@mistake("GuidedUNet")
class InputAdded(_Net):
    """You added x to the output: the network predicts its target directly."""

    def forward(self, x, t, y):
        return x + super().forward(x, t, y)


@mistake("GuidedUNet")
class VectorsStartAtRandom(_Net):
    """Your label vectors start at random: they start at 0, so that the network begins as model.ckpt."""

    def __init__(self, classes=10, **unet):
        super().__init__(classes, **unet)
        with torch.no_grad():
            self.label.weight.copy_(torch.linspace(-1, 1, self.label.weight.numel()).view_as(self.label.weight))


@mistake("drop_labels")
def the_others_dropped(y, u, p, null):
    """Your comparison is the wrong way round: a label is dropped where u lies below p."""
    return torch.where(u >= p, null, y)


@mistake("drop_labels")
def the_others_but_for_the_equal(y, u, p, null):
    """You drop the labels whose u lies above p: those below it are dropped."""
    return torch.where(u > p, null, y)


@mistake("drop_labels")
def one_too_many(y, u, p, null):
    """With p = 0 and u = 0 you drop a label: u can be 0 but never 1, so compare with <, not with <=."""
    return torch.where(u <= p, null, y)


@mistake("drop_labels")
def label_zero(y, u, p, null):
    """You set dropped labels to 0: that is the digit zero. The null label is a number of its own, `null`."""
    return torch.where(u < p, 0, y)


@mistake("drop_labels")
def always_ten(y, u, p, null):
    """Your null label is always 10: use the argument null."""
    return torch.where(u < p, 10, y)


@mistake("drop_labels")
def all_or_none(y, u, p, null):
    """You decide once for the whole batch: each label has its own u."""
    return torch.full_like(y, null) if u[0] < p else y.clone()


@mistake("drop_labels")
def own_random_numbers(y, u, p, null):
    """You drew random numbers of your own: use u, so that the result can be repeated."""
    return torch.where(torch.rand(y.shape, device=y.device) < p, null, y)


@mistake("drop_labels")
def written_into_y(y, u, p, null):
    """You wrote into y: it belongs to the caller, who will find labels missing in the next epoch. Make a new tensor."""
    y[u < p] = null
    return y


@mistake("drop_labels")
def as_floats(y, u, p, null):
    """Your labels are floats: a table of vectors can only be asked with integers. Keep int64."""
    keep = (u >= p).float()
    return keep * y + (1 - keep) * null


@mistake("drop_labels")
def left_out(y, u, p, null):
    """You left the dropped images out of the batch: each keeps its place, with the null label."""
    return y[u >= p]


@mistake("share_as_asked")
def mean_probability(probabilities, y):
    """You return the mean probability of what was asked: count the images in which it is the largest."""
    return probabilities.gather(1, y[:, None]).mean().item()


@mistake("share_as_asked")
def number_not_share(probabilities, y):
    """You return how many there are: divide by the number of images."""
    return (probabilities.argmax(1) == y).sum().item()


@mistake("share_as_asked")
def over_the_images(probabilities, y):
    """Your argmax runs over the images: the classes are axis 1."""
    best = probabilities.argmax(0)
    return (best[y] == torch.arange(len(y), device=y.device)).float().mean().item()


@mistake("share_as_asked")
def only_the_sure_ones(probabilities, y):
    """You count only images of which the judge is sure: what counts is which probability is the largest."""
    return (probabilities.gather(1, y[:, None]) > 0.5).float().mean().item()


@mistake("share_as_asked")
def the_wrong_ones(probabilities, y):
    """You return the share of wrong ones: the others are meant."""
    return (probabilities.argmax(1) != y).float().mean().item()


@mistake("share_as_asked")
def answers_one_by_one(probabilities, y):
    """You return an answer for each image: their mean is the share."""
    return (probabilities.argmax(1) == y).float()


def _noisy(x_0, t, eps, alphas_cumprod):
    abar_t = alphas_cumprod[t].view(-1, 1, 1, 1)
    return abar_t, abar_t.sqrt() * x_0 + (1 - abar_t).sqrt() * eps


def _target(x_0, eps, abar_t):
    return abar_t.sqrt() * eps - (1 - abar_t).sqrt() * x_0


@mistake("guided_loss")
def target_is_the_noise(model, x_0, y, t, eps, alphas_cumprod):
    """You compare with the noise: our network predicts v, so the target is v_target(x_0, eps, abar_t)."""
    _, x_t = _noisy(x_0, t, eps, alphas_cumprod)
    return (model(x_t, t, y).float() - eps).square().mean()


@mistake("guided_loss")
def target_is_the_image(model, x_0, y, t, eps, alphas_cumprod):
    """You compare with x_0: our network predicts v, so the target is v_target(x_0, eps, abar_t)."""
    _, x_t = _noisy(x_0, t, eps, alphas_cumprod)
    return (model(x_t, t, y).float() - x_0).square().mean()


@mistake("guided_loss")
def clean_image_shown(model, x_0, y, t, eps, alphas_cumprod):
    """You show the network the clean image: it sees x_t, which q_sample makes."""
    abar_t, _ = _noisy(x_0, t, eps, alphas_cumprod)
    return (model(x_0, t, y).float() - _target(x_0, eps, abar_t)).square().mean()


@mistake("guided_loss")
def label_not_told(model, x_0, y, t, eps, alphas_cumprod):
    """You call the network without the label: its third argument is y."""
    abar_t, x_t = _noisy(x_0, t, eps, alphas_cumprod)
    return (model(x_t, t).float() - _target(x_0, eps, abar_t)).square().mean()


@mistake("guided_loss")
def time_and_label_swapped(model, x_0, y, t, eps, alphas_cumprod):
    """You swapped the label and the time: the network takes x_t, t, y in this order."""
    abar_t, x_t = _noisy(x_0, t, eps, alphas_cumprod)
    return (model(x_t, y, t).float() - _target(x_0, eps, abar_t)).square().mean()


@mistake("guided_loss")
def target_of_swapped_images(model, x_0, y, t, eps, alphas_cumprod):
    """You handed eps and x_0 over in the wrong order: v_target takes x_0 first."""
    abar_t, x_t = _noisy(x_0, t, eps, alphas_cumprod)
    return (model(x_t, t, y).float() - _target(eps, x_0, abar_t)).square().mean()


@mistake("guided_loss")
def summed(model, x_0, y, t, eps, alphas_cumprod):
    """You summed the squared errors: take their mean, or the loss depends on the size of batch and image."""
    abar_t, x_t = _noisy(x_0, t, eps, alphas_cumprod)
    return (model(x_t, t, y).float() - _target(x_0, eps, abar_t)).square().sum()


@mistake("guided_loss")
def summed_over_the_pixels(model, x_0, y, t, eps, alphas_cumprod):
    """You summed over the pixels and took the mean over the images: take the mean over both."""
    abar_t, x_t = _noisy(x_0, t, eps, alphas_cumprod)
    return (model(x_t, t, y).float() - _target(x_0, eps, abar_t)).square().flatten(1).sum(1).mean()


@mistake("guided_loss")
def abar_without_axes(model, x_0, y, t, eps, alphas_cumprod):
    """Your abar_t has the shape (B,), so it is stretched along the columns of the images: use extract."""
    abar_t = alphas_cumprod[t]
    x_t = abar_t.sqrt() * x_0 + (1 - abar_t).sqrt() * eps
    return (model(x_t, t, y).float() - _target(x_0, eps, abar_t)).square().mean()


@mistake("guided_loss")
def absolute_error(model, x_0, y, t, eps, alphas_cumprod):
    """You took the absolute error: the mean of the squares belongs here."""
    abar_t, x_t = _noisy(x_0, t, eps, alphas_cumprod)
    return (model(x_t, t, y).float() - _target(x_0, eps, abar_t)).abs().mean()


@mistake("guided_loss")
def a_number_returned(model, x_0, y, t, eps, alphas_cumprod):
    """You return a plain number: no gradient can flow from it. Leave out .item()."""
    abar_t, x_t = _noisy(x_0, t, eps, alphas_cumprod)
    return (model(x_t, t, y).float() - _target(x_0, eps, abar_t)).square().mean().item()


@mistake("guided_loss")
def subtracted_in_bfloat16(model, x_0, y, t, eps, alphas_cumprod):
    """You subtracted in bfloat16, which keeps 2 to 3 digits: turn the network's answer into float32 first."""
    abar_t, x_t = _noisy(x_0, t, eps, alphas_cumprod)
    said = model(x_t, t, y)
    return (said - _target(x_0, eps, abar_t).to(said.dtype)).square().mean().float()


@mistake("guided_loss")
def own_noise(model, x_0, y, t, eps, alphas_cumprod):
    """You drew noise of your own: use eps, so that the result can be repeated."""
    eps = torch.randn_like(x_0)
    abar_t, x_t = _noisy(x_0, t, eps, alphas_cumprod)
    return (model(x_t, t, y).float() - _target(x_0, eps, abar_t)).square().mean()


@mistake("label_gradient")
def sign_turned(eps_unconditional, eps_conditional, abar_t):
    """Your gradient points away from the class: a score is MINUS eps over the root, so the order turns round."""
    return (eps_conditional - eps_unconditional) / (1 - abar_t).sqrt()


@mistake("label_gradient")
def root_missing(eps_unconditional, eps_conditional, abar_t):
    """You divided by 1 - abar_t: its square root, the deviation of the noise, belongs there."""
    return (eps_unconditional - eps_conditional) / (1 - abar_t)


@mistake("label_gradient")
def not_divided(eps_unconditional, eps_conditional, abar_t):
    """You did not divide by sqrt(1 - abar_t): a score is minus eps over the deviation of the noise."""
    return (eps_unconditional - eps_conditional) * 1.0


@mistake("label_gradient")
def signal_for_noise(eps_unconditional, eps_conditional, abar_t):
    """You divided by sqrt(abar_t), the strength of the signal: that of the noise is sqrt(1 - abar_t)."""
    return (eps_unconditional - eps_conditional) / abar_t.sqrt()


@mistake("label_gradient")
def multiplied(eps_unconditional, eps_conditional, abar_t):
    """You multiplied by sqrt(1 - abar_t) where you must divide."""
    return (eps_unconditional - eps_conditional) * (1 - abar_t).sqrt()


@mistake("label_gradient")
def score_of_the_class(eps_unconditional, eps_conditional, abar_t):
    """That is the conditional score, the gradient of log p(x_t given y): take the unconditional one away from it."""
    return -eps_conditional / (1 - abar_t).sqrt()


@mistake("label_gradient")
def added(eps_unconditional, eps_conditional, abar_t):
    """You added the two scores: Bayes' rule divides by p(x_t), so its score is subtracted."""
    return -(eps_unconditional + eps_conditional) / (1 - abar_t).sqrt()


@mistake("guide")
def scale_is_w(unconditional, conditional, scale):
    """Your scale is w of Ho and Salimans, which is one less than ours: at scale 1 the result is the conditional one."""
    return conditional + scale * (conditional - unconditional)


@mistake("guide")
def predictions_swapped(unconditional, conditional, scale):
    """You swapped the two predictions: scale 0 must give the unconditional one."""
    return conditional + scale * (unconditional - conditional)


@mistake("guide")
def conditional_added(unconditional, conditional, scale):
    """You added scale times the conditional prediction: it is the difference of the two that is scaled."""
    return unconditional + scale * conditional


@mistake("guide")
def arrow_alone(unconditional, conditional, scale):
    """You return the scaled difference alone: it starts at the unconditional prediction, so add that."""
    return scale * (conditional - unconditional)


@mistake("guide")
def conditional_scaled(unconditional, conditional, scale):
    """You scaled the conditional prediction alone: the unconditional one does not appear."""
    return scale * conditional


@mistake("guide")
def arrow_turned(unconditional, conditional, scale):
    """Your arrow points away from the label: it is conditional minus unconditional."""
    return unconditional - scale * (conditional - unconditional)


@mistake("guide")
def clamped(unconditional, conditional, scale):
    """You clamped: noise and v lie outside [-1, 1] by nature. The clamp comes later, on x_0."""
    return (unconditional + scale * (conditional - unconditional)).clamp(-1, 1)


@mistake("guide")
def written_into_unconditional(unconditional, conditional, scale):
    """You wrote into unconditional (+= or add_): it belongs to the caller. Make a new tensor."""
    return unconditional.add_(scale * (conditional - unconditional))


def _doubled(model, x_t, t, labels):
    return model(torch.cat([x_t, x_t]), torch.cat([t, t]), labels)


@mistake("both_predictions")
def order_turned(model, x_t, t, y, null):
    """You return the two in the wrong order: first the prediction with the null label, then the one with y."""
    return _doubled(model, x_t, t, torch.cat([y, torch.full_like(y, null)])).chunk(2)


@mistake("both_predictions")
def two_calls(model, x_t, t, y, null):
    """You call the network twice: put both into one batch, torch.cat([x_t, x_t]), and call it once."""
    return model(x_t, t, torch.full_like(y, null)), model(x_t, t, y)


@mistake("both_predictions")
def null_is_zero(model, x_t, t, y, null):
    """Your null label is 0: that is the digit zero. Use torch.full_like(y, null)."""
    return _doubled(model, x_t, t, torch.cat([torch.zeros_like(y), y])).chunk(2)


@mistake("both_predictions")
def labels_twice(model, x_t, t, y, null):
    """You asked for y in both halves: the first half gets the null label."""
    return _doubled(model, x_t, t, torch.cat([y, y])).chunk(2)


@mistake("both_predictions")
def images_interleaved(model, x_t, t, y, null):
    """You repeated each image in place (repeat_interleave), so images and labels do not fit together: use torch.cat."""
    labels = torch.cat([torch.full_like(y, null), y])
    return model(x_t.repeat_interleave(2, 0), t.repeat_interleave(2, 0), labels).chunk(2)


@mistake("both_predictions")
def every_second_one(model, x_t, t, y, null):
    """You took every second prediction: the first half is unconditional and the second conditional, so chunk(2)."""
    said = _doubled(model, x_t, t, torch.cat([torch.full_like(y, null), y]))
    return said[0::2], said[1::2]


@mistake("both_predictions")
def time_not_doubled(model, x_t, t, y, null):
    """You doubled the images and not the times: torch.cat([t, t]) has one for each image."""
    return model(torch.cat([x_t, x_t]), t, torch.cat([torch.full_like(y, null), y])).chunk(2)


@mistake("both_predictions")
def cut_along_the_channels(model, x_t, t, y, null):
    """You cut along the channels (dim=1): the two predictions lie one after the other along the batch, dim=0."""
    said = _doubled(model, x_t, t, torch.cat([torch.full_like(y, null), y]))
    return said.chunk(2, dim=1)


@mistake("both_predictions")
def not_cut(model, x_t, t, y, null):
    """You return one tensor with both predictions in it: cut it into two, .chunk(2)."""
    return _doubled(model, x_t, t, torch.cat([torch.full_like(y, null), y]))


@mistake("predict_scale_zero")
def says_sevens():
    """At scale 0 the label drops out of the formula: only the unconditional prediction is left."""
    return "sevens"


@mistake("predict_scale_zero")
def says_anything_but():
    """At scale 0 nothing pushes away from seven either. That takes a scale below 0."""
    return "anything but sevens"


@mistake("predict_scale_zero")
def says_none_of_them():
    """Return one of the three texts that the question names."""
    return "nothing"


def _table(a, b):
    return (a[:, None] - b[None]).square().sum(-1).sqrt()


@mistake("manifold_radii")
def self_counted(features, k):
    """You counted the point itself as its first neighbour: its distance 0 stands first in the sorted row, skip it."""
    return _table(features, features).sort(1).values[:, k - 1]


@mistake("manifold_radii")
def mean_of_k(features, k):
    """You took the mean over the k nearest: the radius is the distance of the k-th one alone."""
    return _table(features, features).sort(1).values[:, 1 : k + 1].mean(1)


@mistake("manifold_radii")
def squared(features, k):
    """Your distances are squared: take the root."""
    return _table(features, features).square().sort(1).values[:, k]


@mistake("manifold_radii")
def sum_of_absolutes(features, k):
    """You summed absolute differences: the usual distance is the root of the sum of squares."""
    return (features[:, None] - features[None]).abs().sum(-1).sort(1).values[:, k]


@mistake("manifold_radii")
def farthest_first(features, k):
    """You sorted the farthest first: the nearest neighbours have the smallest distances."""
    return _table(features, features).sort(1, descending=True).values[:, k - 1]


@mistake("manifold_radii")
def zeros_left_out(features, k):
    """You left out all distances of 0: two points may share a place. Only the point itself is no neighbour."""
    table = _table(features, features)
    return torch.where(table == 0, torch.inf, table).sort(1).values[:, k - 1]


@mistake("manifold_radii")
def whole_table(features, k):
    """You return the distances to all k neighbours: the k-th alone is the radius, so the result is (N,)."""
    return _table(features, features).sort(1).values[:, 1 : k + 1]


@mistake("manifold_radii")
def which_neighbour(features, k):
    """You return which point is the k-th neighbour: its distance is asked for."""
    return _table(features, features).argsort(1)[:, k]


@mistake("share_inside")
def nearest_ball_only(points, centres, radii):
    """You looked only at the ball of the nearest centre: a larger ball of a farther one may hold the point too."""
    distance, nearest = _table(points, centres).min(1)
    return (distance <= radii[nearest]).float().mean().item()


@mistake("share_inside")
def in_every_ball(points, centres, radii):
    """You ask for points that lie in all balls: one ball is enough, so any, not all."""
    return (_table(points, centres) <= radii).all(1).float().mean().item()


@mistake("share_inside")
def radii_of_the_points(points, centres, radii):
    """You gave the radii to the points (radii[:, None]): they belong to the centres, along the other axis."""
    return (_table(points, centres) <= radii[:, None]).any(1).float().mean().item()


@mistake("share_inside")
def share_of_pairs(points, centres, radii):
    """You took the mean over all pairs of point and ball: first ask of each point whether any ball holds it."""
    return (_table(points, centres) <= radii).float().mean().item()


@mistake("share_inside")
def share_of_centres(points, centres, radii):
    """You counted the balls that hold a point: count the points that lie in a ball. any() runs along the centres."""
    return (_table(points, centres) <= radii).any(0).float().mean().item()


@mistake("share_inside")
def number_not_share_of_points(points, centres, radii):
    """You return how many points are inside: divide by the number of points."""
    return (_table(points, centres) <= radii).any(1).sum().item()


@mistake("share_inside")
def edge_left_out(points, centres, radii):
    """You left out the edge: a point exactly at the radius is inside, so <= and not <."""
    return (_table(points, centres) < radii).any(1).float().mean().item()


@mistake("share_inside")
def squared_against_radius(points, centres, radii):
    """You compared squared distances with the radii: square both or neither."""
    return (_table(points, centres).square() <= radii).any(1).float().mean().item()


@mistake("share_inside")
def one_radius_for_all(points, centres, radii):
    """You gave all balls the mean radius: each has its own."""
    return (_table(points, centres) <= radii.mean()).any(1).float().mean().item()


@mistake("share_inside")
def outside_counted(points, centres, radii):
    """You return the share outside: the others are meant."""
    return (_table(points, centres) > radii).all(1).float().mean().item()


@mistake("predict_large_scale")
def says_precision():
    """A larger scale removes doubtful digits, and those lie outside the real cloud. What happens to the variety?"""
    return "precision"


@mistake("predict_large_scale")
def says_both():
    """Up to scale 3 doubtful digits disappear, which helps one of the two. (Samples go astray only far above that.)"""
    return "both"


@mistake("predict_large_scale")
def says_neither():
    """Return one of the three texts that the question names."""
    return "none"


def _deviation(x):
    return x.std(dim=(1, 2, 3), keepdim=True)


@mistake("rescale_guidance")
def over_the_batch(guided, conditional, rescale):
    """You took one deviation for the whole batch: each image has its own."""
    return rescale * (conditional.std() / guided.std()) * guided + (1 - rescale) * guided


@mistake("rescale_guidance")
def upside_down(guided, conditional, rescale):
    """Your ratio is upside down: the guided contrast is too large, so its deviation is divided by."""
    ratio = _deviation(guided) / _deviation(conditional)
    return rescale * ratio * guided + (1 - rescale) * guided


@mistake("rescale_guidance")
def always_all_the_way(guided, conditional, rescale):
    """You do not use rescale: it says how much of the rescaled prediction is mixed in."""
    return _deviation(conditional) / _deviation(guided) * guided


@mistake("rescale_guidance")
def shares_swapped(guided, conditional, rescale):
    """You swapped the shares: rescale belongs to the rescaled prediction, and 0 changes nothing."""
    ratio = _deviation(conditional) / _deviation(guided)
    return (1 - rescale) * ratio * guided + rescale * guided


@mistake("rescale_guidance")
def mixed_with_conditional(guided, conditional, rescale):
    """You mixed the guided prediction with the conditional one: mix it with its own rescaled version."""
    return rescale * conditional + (1 - rescale) * guided


@mistake("rescale_guidance")
def axes_lost(guided, conditional, rescale):
    """Your deviations have the shape (B,): with keepdim=True they keep their axes and fit the images."""
    ratio = conditional.std(dim=(1, 2, 3)) / guided.std(dim=(1, 2, 3))
    return rescale * ratio * guided + (1 - rescale) * guided


@mistake("rescale_guidance")
def mean_kept(guided, conditional, rescale):
    """You kept the mean and shrank around it: the whole prediction is multiplied, its mean too."""
    mean = guided.mean(dim=(1, 2, 3), keepdim=True)
    scaled = mean + _deviation(conditional) / _deviation(guided) * (guided - mean)
    return rescale * scaled + (1 - rescale) * guided


@mistake("rescale_guidance")
def per_channel(guided, conditional, rescale):
    """You took a deviation for each channel: an image has one, over its channels and pixels together."""
    ratio = conditional.std(dim=(2, 3), keepdim=True) / guided.std(dim=(2, 3), keepdim=True)
    return rescale * ratio * guided + (1 - rescale) * guided


@mistake("rescale_guidance")
def variances(guided, conditional, rescale):
    """You used variances: contrast is the standard deviation."""
    ratio = (_deviation(conditional) / _deviation(guided)) ** 2
    return rescale * ratio * guided + (1 - rescale) * guided


@mistake("rescale_guidance")
def clamped_at_once(guided, conditional, rescale):
    """You clamped: the function only rescales, the clamp comes after it."""
    ratio = _deviation(conditional) / _deviation(guided)
    return (rescale * ratio * guided + (1 - rescale) * guided).clamp(-1, 1)


@mistake("rescale_guidance")
def written_into_guided(guided, conditional, rescale):
    """You wrote into guided (*= or mul_): it belongs to the caller. Make a new tensor."""
    return guided.mul_(rescale * _deviation(conditional) / _deviation(guided) + 1 - rescale)


def _area(height, place):
    return ((height[1:] + height[:-1]) / 2 * (place[1:] - place[:-1])).sum().item()


@mistake("label_information")
def area_is_negative(gap, snr):
    """Your sign is wrong: SNR falls along the list, so the trapezoids have negative widths. Turn the sign round."""
    return 0.5 * _area(snr * gap, snr.log())


@mistake("label_information")
def half_forgotten(gap, snr):
    """You forgot the factor one half before the integral."""
    return -_area(snr * gap, snr.log())


@mistake("label_information")
def half_and_sign_forgotten(gap, snr):
    """You forgot the factor one half and the sign: SNR falls along the list, so the trapezoids have negative widths."""
    return _area(snr * gap, snr.log())


@mistake("label_information")
def snr_forgotten(gap, snr):
    """You forgot the factor SNR: over ln SNR the height is SNR times the gap."""
    return -0.5 * _area(gap, snr.log())


@mistake("label_information")
def over_snr_itself(gap, snr):
    """You integrated over SNR itself: with few noise levels the trapezoids are too coarse there. Use ln SNR."""
    return -0.5 * _area(gap, snr)


@mistake("label_information")
def in_powers_of_ten(gap, snr):
    """Your logarithm has the base 10: the natural one belongs here, torch.log."""
    return -0.5 * _area(snr * gap, snr.log10())


@mistake("label_information")
def in_bits(gap, snr):
    """Your logarithm has the base 2: the natural one belongs here, torch.log."""
    return -0.5 * _area(snr * gap, snr.log2())


@mistake("label_information")
def widths_forgotten(gap, snr):
    """You averaged the heights: an area is heights times widths, and the noise levels are unequally far apart."""
    return 0.5 * (snr * gap).mean().item()


@mistake("label_information")
def boxes(gap, snr):
    """You used boxes with the height of their left edge: trapezoids have the mean of both edges."""
    return 0.5 * ((snr * gap)[:-1] * (snr.log()[:-1] - snr.log()[1:])).sum().item()


@mistake("label_information")
def absolute_gap(gap, snr):
    """You took the absolute value of the gap: where a label misleads, it counts as negative."""
    return -0.5 * _area(snr * gap.abs(), snr.log())


@mistake("scale_at")
def zero_outside(t, scale, low, high):
    """Outside you return 0, which forgets the label: without guidance means scale 1."""
    return scale if low <= t <= high else 0.0


@mistake("scale_at")
def ends_left_out(t, scale, low, high):
    """You left out the two ends: they belong to the interval, so <= on both sides."""
    return scale if low < t < high else 1.0


@mistake("scale_at")
def upper_end_left_out(t, scale, low, high):
    """You left out the upper end, as range does: here both ends belong to the interval."""
    return scale if low <= t < high else 1.0


@mistake("scale_at")
def outside_instead(t, scale, low, high):
    """You guide outside the interval: the scale belongs inside."""
    return 1.0 if low <= t <= high else scale


@mistake("scale_at")
def from_low_upwards(t, scale, low, high):
    """You forgot the upper end: t may be too large as well."""
    return scale if t >= low else 1.0


@mistake("scale_at")
def up_to_high(t, scale, low, high):
    """You forgot the lower end: t may be too small as well."""
    return scale if t <= high else 1.0


@mistake("scale_at")
def ends_exchanged(t, scale, low, high):
    """Your two ends are exchanged, so that no t fits: low is the smaller one."""
    return scale if high <= t <= low else 1.0
