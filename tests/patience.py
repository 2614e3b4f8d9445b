"""How long tests wait, in other threads and for clients, for what a right answer does at once."""

import os

PATIENCE = float(os.environ.get("TINY_LLM_PATIENCE", "10"))
"""Seconds after which a test says what did not happen. A right answer needs a few milliseconds, on a slow machine a second.
Where known mistakes are tried, hundreds of tests wait in vain, so there it is less."""

SIMULATED = 10.0
"""Seconds for a test whose time is simulated, which takes a fraction of one: what has not ended by then never does."""
