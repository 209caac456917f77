"""Who writes the training prompts. `vlm` asks the model file's vision-language model (qwen.py); the others need no
model: a function of the phrases, the kind of media, how many prompts, and the seed of the first."""

from bico.prompts.writers.template import template_prompts

WITHOUT_MODEL = {"template": template_prompts}
