"""What no guard can watch: clocks, files, the environment, other libraries' random numbers."""

import datetime
import io
import os
import random
import types

import numpy as np

Generator = np.random.Generator | np.random.RandomState | random.Random

RANDOM = "Draw with mg.rand or mg.randn, or pass the numbers as an argument."
CLOCK = "Look at the clock outside of the step, and pass the time as an argument."
FILE = "Read it outside of the step, and pass what was read as an argument."


def impure_builtin(function: object) -> tuple[str, str] | None:
    """What is wrong with a call of a function written in C, and what to do instead."""
    name, owner = getattr(function, "__name__", ""), getattr(function, "__self__", None)
    home = getattr(function, "__module__", "") or ""
    if isinstance(owner, types.ModuleType):
        home = owner.__name__
    if isinstance(owner, random.Random):
        return f"it draws random numbers ({name}), which would be the same in every step", RANDOM
    if home == "time" and name != "sleep":
        return f"it looks at the clock (time.{name})", CLOCK
    if isinstance(owner, type) and issubclass(owner, datetime.date) and name in ("now", "today", "utcnow"):
        return f"it looks at the clock ({owner.__name__}.{name})", CLOCK
    if name == "input" and home == "builtins":
        return "it waits for input", FILE
    if name == "open" and home in ("io", "_io"):
        return "it opens a file", FILE
    if isinstance(owner, io.IOBase) and name.startswith("read"):
        return f"it reads a file ({name})", FILE
    if home in ("posix", "nt"):
        return f"it asks the operating system (os.{name})", FILE
    return None


def impure_function(frame: types.FrameType) -> tuple[str, str] | None:
    """The same for a call of a function of the standard library."""
    file, name = frame.f_code.co_filename, frame.f_code.co_name
    if file == random.__file__ and name not in ("__init__", "__new__", "seed"):
        return f"it draws random numbers (random.{name}), which would be the same in every step", RANDOM
    if name in ("getenv", "getenvb") and file in ("<frozen os>", os.__file__):
        return f"it reads the environment (os.{name})", FILE
    if frame.f_code.co_argcount and frame.f_locals.get(frame.f_code.co_varnames[0]) is os.environ:
        return "it reads the environment (os.environ)", FILE
    if file.rpartition(os.sep)[2] in ("uuid.py", "secrets.py"):
        return f"it draws random numbers ({name}), which would be the same in every step", RANDOM
    if file.endswith("pathlib.py") and name in ("read_text", "read_bytes", "exists", "open", "stat"):
        return f"it reads a file ({name})", FILE
    return None


def state_of(source: Generator) -> object:
    """The state of a random generator, to compare."""
    if isinstance(source, random.Random):
        return source.getstate()
    state = (
        source.get_state(legacy=False)
        if isinstance(source, np.random.RandomState)
        else source.bit_generator.state
    )
    found = state["state"]
    key = found.get("key")
    return b"" if key is None else key.tobytes(), [repr(found[name]) for name in found if name != "key"]
