"""The commands behind `pdm run ...`. Importing any of them first checks for what they all need."""

from tiny_llm_kit.cli.preflight import require_packages

require_packages()
