"""Timelines: a run's event log as a picture. `Recorder` reads a log, and `write_trace` writes what it recorded."""

from tiny_llm_kit.timeline.files import write_trace as write_trace
from tiny_llm_kit.timeline.recorder import Recorder as Recorder
