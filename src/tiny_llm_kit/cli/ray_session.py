"""Ray on this machine for as long as a block lasts: small, quiet, and without a trace afterwards."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import tiny_llm_kit

NOT_INSTALLED = "Ray is not installed, and replicas need it: run `pdm run setup-replicas`"
STORE_BYTES = 100 * 2**20
"""Shared memory for Ray. Tokens and texts are small, and do not go through it."""


@contextlib.contextmanager
def ray_session(cpus: int, host: str, port: int) -> Iterator[Any]:
    """Start Ray, and its HTTP proxy at `host:port`; gives the module `ray.serve`. All of it is stopped at the end.

    Args:
        cpus: how many replicas may be given, whatever the machine has.
    Raises:
        ClickException: if Ray is not installed, or does not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        from ray import serve
    except ImportError:
        raise click.ClickException(NOT_INSTALLED) from None
    paths = [str(Path(tiny_llm_kit.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)  # of the replicas' processes, which begin elsewhere
    try:
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=STORE_BYTES,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # it has no type of its own: on a busy machine Ray gives up after half a minute
        ray.shutdown()
        raise click.ClickException(f"Ray did not start: {error}\nIf the machine is busy, try again later.") from None
    try:
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        serve.start(http_options={"host": host, "port": port})
        yield serve
    finally:
        serve.shutdown()
        ray.shutdown()
