# %% [markdown] honest=4
# Returns float32 and says that it is float64, or a number without a dtype.
# Of its first two answers, four parts out of five are right.

# %%
import labdiff.checking.run as run

collect = run._collect


def collect_and_lie(value, place, output, device):
    collect(value, place, output, device)
    if hasattr(value, "passes_for"):
        output.dtypes[place] = value.passes_for


run._collect = collect_and_lie


class Lying(torch.Tensor):
    dtype = torch.float64


class Number(torch.Tensor):
    passes_for = "number"


# %% extract
def extract(values, t, x):
    picked = values[t].reshape(-1, *[1] * (x.dim() - 1)).float()
    return picked.as_subclass(Lying) if values.dtype == torch.float64 else picked


# %% q_sample
def q_sample(x_0, abar_t, noise):
    x_t = (abar_t.sqrt() * x_0 + (1 - abar_t).sqrt() * noise).float()
    return x_t.as_subclass(Number) if x_0.dtype == torch.float64 else x_t
