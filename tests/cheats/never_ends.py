# %% [markdown] honest=2
# Never returns.

# %% extract
def extract(values, t, x):
    return values[t].reshape(-1, *[1] * (x.dim() - 1))


# %% q_sample
def q_sample(x_0, abar_t, noise):
    while True:
        pass
