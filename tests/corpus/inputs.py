"""All inputs, in the order of the table."""

from tests.corpus import answers, checkpoints, configuration, media, prompts, tables

INPUTS = [one for part in (media, tables, prompts, configuration, checkpoints, answers) for one in part.INPUTS]
