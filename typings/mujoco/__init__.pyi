# MuJoCo's bindings come without types: for pyright every name of theirs may be anything.
from typing import Any

def __getattr__(name: str) -> Any: ...
