"""BiCo (Bind & Compose, arXiv 2512.09824) as a library: bind visual concepts to words, compose them, render videos.

The letters of every shape in this package:

    B  batch                    L  text length, padding included (512 for Wan2.1)
    E  width of the text encoder (4096)     D  width of the transformer (1536)
    N  transformer blocks (30)              A  absorbent tokens of a concept (1)
    C  latent channels (16)     F  frames (of pixels or latents, as said)
    H, W  height and width (of pixels or latents, as said)

The numbers in brackets are Wan2.1-T2V-1.3B's; the code takes every size from the models' own configs.
"""

__version__ = "0.1.0"


class InputError(ValueError):
    """Something the user gave cannot be used. The message names the file, the row and the field, what was found and
    what is allowed; `problems` lists them all, one line each."""

    def __init__(self, *problems: str):
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class Stopped(Exception):
    """Work that was told to stop has saved itself; the same command goes on with it."""
