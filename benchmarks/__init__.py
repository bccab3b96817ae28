"""How fast is the platform? Each benchmark measures it and a baseline in one run on the same rows.

`python -m benchmarks` from the root of a clone; docs/benchmarks.md is the manual. Nothing imports this package.
"""
