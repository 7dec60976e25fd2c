# %% [markdown]
# Tags its checks as expected to fail.

# %% check-extract tags=["raises-exception"]

# %% check-q_sample tags=["raises-exception"]

# %% check-posterior_mean tags=["raises-exception"]
