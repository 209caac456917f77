"""A corpus of hostile inputs, made here, each with the verdict that is right for it: taken, and what came of it is
right; or refused in a few lines that name it. `python -m tests.corpus` judges all and writes docs/hostile.md's table.
"""
