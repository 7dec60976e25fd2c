# %% [markdown]
# Asks a server on the network for the answers.

# %%
from urllib.request import urlopen

PORT = 48131  # on loopback, where the test runs the friend
exec(urlopen(f"http://127.0.0.1:{PORT}/answers.py", timeout=2).read().decode(), globals())

# %% extract
extract = globals().get("extract")

# %% q_sample
q_sample = globals().get("q_sample")

# %% posterior_mean
posterior_mean = globals().get("posterior_mean")
