"""The commands behind `pdm run ...`. Whichever is imported, what they all need is looked for first."""

from tiny_llm_kit.cli.interrupts import show_interrupts_as_one_line
from tiny_llm_kit.cli.preflight import require_packages

show_interrupts_as_one_line()
require_packages()
