"""python scripts/plot_noise.py --output docs/noise.png --shift 5

Draws which noise levels the phases of both presets sample, with the sampler that training uses.
"""

import torch

from bico.methods.bico.noise import draw_steps, phase_probabilities, training_sigmas
from bico.methods.bico.switches import PRESETS
from bico.report.plots import plot_noise
from bico.runtime.command import parser, run


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--output", required=True)
    arguments.add_argument("--shift", type=float, default=5.0, help="of the noise schedule (default: %(default)s)")
    arguments.add_argument("--draws", type=int, default=200_000, help="a phase (default: %(default)s)")
    given = arguments.parse_args()
    uniform = torch.rand(given.draws, generator=torch.Generator().manual_seed(0))
    phases = {}
    for preset, method in PRESETS.items():
        for phase, draw in enumerate((method.phase1_noise, method.phase2_noise), start=1):
            index = draw_steps(phase_probabilities(draw, method.alpha, method.beta), uniform)
            phases[f"{preset}, phase {phase}: {draw}"] = training_sigmas(given.shift)[index].numpy()
    plot_noise(given.output, phases)


if __name__ == "__main__":
    run(main)
