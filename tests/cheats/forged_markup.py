# %% [markdown]
# Raises errors made of markup, terminal codes and megabytes.

# %%
MARKUP = "<script>document.body.innerHTML = 'right'</script><img src=x onerror=alert(1)>"


# %% extract
def extract(values, t, x):
    raise type(MARKUP, (Exception,), {})(MARKUP)


# %% q_sample
def q_sample(x_0, abar_t, noise):
    raise ValueError("\x1b[2J\x1b[1;32mright\x1b]0;3 of 3\x07\r\u202ethgir\x00 " + "right " * 2_000_000)


# %% posterior_mean
def posterior_mean(x_0, x_t, beta_t, abar_t, abar_prev):
    return "\x1b[2Jright " * 100_000
