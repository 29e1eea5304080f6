"""Where definitions are typed, run as `python hosts.py HOST`: cells come as JSON, what they print goes on.

A cell is a few statements; its last line prints what a test reads. Each host is the real one: Python's
prompt in a terminal, IPython's shell, a Jupyter kernel of its own process, and marimo's compiler of cells.
"""

import json
import os
import re
import select
import subprocess
import sys
import time

UNKNOWN = 77
"""The exit status where a host has none of what is used here."""


def prompt(cells):
    """Python's interactive prompt in a terminal: the lines of a cell end with an empty one."""
    import pty

    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "dumb", "PYTHON_BASIC_REPL": "1", "PYTHON_HISTORY": os.devnull}
    process = subprocess.Popen(
        [sys.executable, "-q"], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    wait_for(ours, b">>> ")
    for cell in cells:
        for line in cell.splitlines():
            os.write(ours, line.encode() + b"\n")
            sys.stdout.write(wait_for(ours, b">>> ", b"... "))
        os.write(ours, b"\n")
        sys.stdout.write(wait_for(ours, b">>> "))
    os.write(ours, b"exit()\n")
    process.wait(20)


def wait_for(terminal, *ends):
    """What a terminal shows until one of the ends."""
    seen, until = b"", time.monotonic() + 60
    while not seen.endswith(ends):
        if not select.select([terminal], [], [], max(until - time.monotonic(), 0))[0]:
            raise TimeoutError(seen.decode())
        seen += os.read(terminal, 4096)
    return seen.decode().replace("\r\n", "\n")


def ipython(cells):
    """IPython's shell, cell by cell."""
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    for cell in cells:
        shell.run_cell(cell, store_history=True)


def jupyter(cells):
    """A Jupyter kernel, spoken to over its sockets."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3")
    try:
        for cell in cells:
            client.execute_interactive(cell, timeout=60, output_hook=shown)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def shown(message):
    """Pass on what a kernel prints."""
    content = message["content"]
    print(content.get("text", "") + "\n".join(content.get("traceback", ())), end="")


def marimo(cells):
    """Cells of a marimo notebook; one that defines what another did is that one, edited."""
    try:
        from marimo._ast.compiler import compile_cell
    except ImportError:
        sys.exit(UNKNOWN)
    space = {"__name__": "__main__"}
    for cell in cells:
        compiled = compile_cell(cell, cell_id=(re.findall(r"(?:def|class) (\w+)", cell) or ["last"])[0])
        exec(compiled.body, space)
        exec(compiled.last_expr, space)


if __name__ == "__main__":
    globals()[sys.argv[1]](json.load(sys.stdin))
