"""Run the command line with ``python -m batch_frames``."""

from batch_frames.cli import main

main(prog_name="batch-frames")
