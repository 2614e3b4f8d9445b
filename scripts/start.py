"""Starts a program of the kit. Knows the standard library alone, so that it can guard all that is imported."""

import importlib
import sys


def start(program: str) -> None:
    """Run `tiny_llm_kit.cli.<program>`. Ctrl-C while modules are loading ends it with one line and exit code 130."""
    sys.argv = [argument for argument in sys.argv if argument != "--"]  # `pdm run test -- -x` hands it on, and pytest would too
    try:
        module = importlib.import_module(f"tiny_llm_kit.cli.{program}")
        module.main(prog_name=f"pdm run {program.replace('_', '-')}")
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        raise SystemExit(130) from None
