"""Networks and the train step once more in PyTorch, to be timed beside ours.

Only `--job=bench --against=torch` imports it, and only what is tested against
the networks of `flowdistill/networks/` is here.
"""
