"""Prepare the process in which the tests run."""

import signal

# Some tests press Ctrl-C, which what a shell starts in the background, and its children, ignore.
signal.signal(signal.SIGINT, signal.default_int_handler)
