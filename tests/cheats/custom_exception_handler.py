# %% [markdown]
# Handles every exception itself, silently.
# So no error is shown.

# %%
get_ipython().set_custom_exc((BaseException,), lambda shell, kind, error, trace, tb_offset=None: None)
get_ipython().showtraceback = lambda *given, **named: None
