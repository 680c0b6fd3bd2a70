"""`kvcalc explain-log`: the older name of `kvcalc explain`."""

from __future__ import annotations

from kvcalc.cli import explain

COMMAND = explain.COMMAND._replace(help=f"The same as `kvcalc explain`. {explain.COMMAND.help}")
