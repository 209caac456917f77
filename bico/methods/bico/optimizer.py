"""AdamW whose memory is asked for at the start: what fits at a run's first step fits at its last."""

import torch


class AdamW(torch.optim.AdamW):
    """torch's AdamW; its state and the gradients of all parameters exist from the start.

    A parameter that requires no gradient at a step is left alone by it, weight decay included, just as torch leaves
    one without a gradient.
    """

    def __init__(self, parameters, **options):
        super().__init__(parameters, **options)
        self._gradients = [(parameter, torch.zeros_like(parameter)) for parameter in self.param_groups[0]["params"]]
        for parameter, _ in self._gradients:
            averages = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
            self.state[parameter] = {"step": torch.tensor(0.0), **averages}

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Ready for the next backward pass: zero where a gradient is required, none elsewhere."""
        for parameter, gradient in self._gradients:
            wanted = parameter.requires_grad and parameter.numel()
            parameter.grad = gradient.zero_() if wanted else None
