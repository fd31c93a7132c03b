"""The command line: each command parses arguments, calls one function and prints."""

from batch_frames.cli.main import main

__all__ = ["main"]
