"""How an answer is judged: run a probe, compare what came out, explain."""
