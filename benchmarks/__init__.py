"""How fast this code is: `python -m benchmarks`; see __main__.py."""
