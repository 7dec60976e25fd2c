# %% [markdown]
# Marks its checks as cells to be answered, and writes its own.

# %% check-extract nbgrader={"solution": true, "locked": false}
print("right, 2 of 2 points")

# %% check-q_sample nbgrader={"solution": true, "locked": false}
print("right, 3 of 3 points")

# %% check-posterior_mean nbgrader={"solution": true, "locked": false}
print("right, 3 of 3 points")
