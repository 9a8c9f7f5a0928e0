"""A shell's `&` and `nohup` start a process with Ctrl-C ignored, and it would stay so in every process that a test starts."""

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
