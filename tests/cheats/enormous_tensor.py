# %% [markdown]
# Returns a tensor of a trillion numbers, and others of 30 MB.

# %% extract
def extract(values, t, x):
    return torch.zeros(1).expand(10**12)


# %% q_sample
def q_sample(x_0, abar_t, noise):
    return torch.ones(30 << 20, dtype=torch.bool) if torch.equal(x_0[:1], x_0) else x_0 + noise


# %% posterior_mean
def posterior_mean(x_0, x_t, beta_t, abar_t, abar_prev):
    return [[[[x_t] * 10] * 10] * 10] * 10
