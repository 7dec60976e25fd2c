# %% [markdown]
# Has later cells compiled without their asserts.

# %%
import builtins

compile_as_written = builtins.compile


def compile_without_asserts(*given, **named):
    return compile_as_written(*given, **{**named, "optimize": 2})


builtins.compile = compile_without_asserts
