"""Can this machine render off-screen and decode video? Prints the Debian packages that are wanting; exit 1 if any is."""

import os
import sys
from collections.abc import Callable


def render() -> None:
    """Make a real EGL context the way the simulator does."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    import mujoco

    context = mujoco.GLContext(16, 16)
    context.make_current()
    context.free()


def decode() -> None:
    """Load torchcodec's FFmpeg bindings; importing them fails without the shared libraries."""
    import torchcodec.decoders  # noqa: F401


def wanting(checks: dict[str, Callable[[], None]]) -> list[str]:
    """The packages (keys of `checks`) whose check raised; the reason goes to stderr."""
    missing = []
    for packages, check in checks.items():
        try:
            check()
        except Exception as error:  # a missing library shows as whatever the binding happens to raise
            print(f"setup: {check.__name__}: {type(error).__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
            missing.append(packages)
    return missing


if __name__ == "__main__":
    missing = wanting({"libegl1 libgl1-mesa-dri": render, "ffmpeg": decode})
    print(*missing)
    sys.exit(bool(missing))
