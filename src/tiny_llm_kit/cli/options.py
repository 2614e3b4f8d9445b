"""Options that several programs have, in the same words."""

from pathlib import Path

import click

from tiny_llm_kit.cli.outputs import OutFolder

KERNELS = ("arrays", "mlx", "course")
LARGEST_SEED = 2**32 - 1

kernels_option = click.option(
    "--kernels",
    type=click.Choice(KERNELS),
    help="What computes: arrays, MLX's fused kernels, or the course's Metal kernels.  [default: arrays on a CPU, else mlx]",
)
model_option = click.option(
    "--model", help="A hub name, a folder or a .gguf file.  [default: the embedded SmolLM2-135M-Instruct]"
)
out_option = click.option("--out", type=OutFolder(), default=Path("results"), show_default=True, help="Where results go.")
seed_type = click.IntRange(0, LARGEST_SEED)
