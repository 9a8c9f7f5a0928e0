"""A shell's `&` and `nohup` start a process with Ctrl-C ignored, and it would stay so in every process that a test starts."""

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)

# Files of processes and trainings, the longest first: else one worker is left with the longest while the other has nothing to do.
LONGEST = ("installed", "demo", "stopped", "closed_loop", "kill_points", "runbooks", "defects", "smolvla_episodes",
           "smolvla_world", "latent_store", "lab_server", "plugin", "docs", "train")


def pytest_collection_modifyitems(items):
    """Needs `--no-loadscope-reorder` of pytest-xdist, which otherwise begins with the files of most tests."""
    place = {f"test_{name}": i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))
