"""The commands behind `pdm run ...`. Whichever is imported, what they all need is looked for first."""

from tiny_llm_kit.cli.preflight import require_packages

require_packages()
