"""What the values of a program are called: the user's variables and parameters, each name once."""

from collections.abc import Iterable, Mapping

from microgradx.codegen.ir.program import Value
from microgradx.codegen.ir.tree import AXES
from microgradx.compiler.capture.user_code import user_frame
from microgradx.eager.tensor import Tensor
from microgradx.kernels import source
from microgradx.nn import Module
from microgradx.scalars import functions

RESERVED = source.RESERVED | set(AXES)
"""Names that emitted code has a use for."""


class Namespace:
    """The names that are taken, and the Values whose names the user has not chosen."""

    def __init__(self, parameters: dict[int, str]):
        self.parameters = parameters  # full names of Tensors by id, as modules know them
        self.taken: set[str] = set()
        self.invented: set[Value] = set()
        self.lent: set[Value] = set()  # of these, those with names of the library's own code

    def free(self, base: str) -> str:
        """A name that no other Value has."""
        base = "".join(c if f"_{c}".isidentifier() else "_" for c in base).strip("_") or "value"
        base = f"_{base}" if base[0].isdigit() else base
        return source.take_name(
            base, self.taken, f"{base}_1" if base in RESERVED or base in functions else base
        )

    def rename(self, value: Value | None, base: str) -> None:
        """Give a Value a name of the user's, unless it has one."""
        if value in self.invented:
            self.taken.discard(value.name)
            value.name = self.free(base)
            self.invented.discard(value)

    def lend(self, value: Value | None, base: str) -> None:
        """Give a Value a name of the library's own code, until the user has one; `x` and `y` say nothing."""
        if value in self.invented and value not in self.lent and len(base) > 1:
            self.taken.discard(value.name)
            value.name = self.free(base)
            self.lent.add(value)

    def of(self, tensor: Tensor, otherwise: str = "") -> str:
        """What a Tensor is called by its module, or by itself."""
        return self.parameters.get(id(tensor)) or tensor.name or otherwise


def local_name(x: object) -> str | None:
    """What the user calls a Tensor or array: the name of a variable in the frame, or a global of it."""
    frame = user_frame()
    spaces: tuple[Mapping[str, object], ...] = (frame.f_locals, frame.f_globals)
    for space in spaces:
        for name, value in list(space.items()):
            if value is x and not name.startswith("_"):
                return name
    return None


def parameter_names(things: Iterable[object]) -> dict[int, str]:
    """Names for the parameters and buffers of the modules among some objects: weight_0, hidden_weight."""
    names: dict[int, str] = {}
    for module in things:
        if isinstance(module, Module):
            for full, tensor in module.named_tensors():
                *path, last = full.split(".")
                digits = [part for part in path if part.isdigit()]
                words = [part for part in path if not part.isdigit()]
                names.setdefault(id(tensor), "_".join([*words, last, *digits]))
    return names
