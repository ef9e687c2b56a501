"""Kinds of tasks, controllers and memories: our own, and those of other packages.

A config chooses its task, controller and memory by ``kind``. A :class:`Registry` maps every kind to
the class of its settings. Another package adds kinds through entry points in its pyproject.toml:

    [project.entry-points."ntm.controllers"]
    mgu = "ntm_mgu:MGUConfig"

The groups are ``ntm.tasks``, ``ntm.controllers`` and ``ntm.memories``; the name of an entry is the
kind. From Python, :func:`register` adds a class for as long as the process runs. A config only
chooses among registered kinds: it never names code to import.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ntm.errors import UsageError

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

T = TypeVar("T")


class Registry(Mapping[str, type[T]], Generic[T]):
    """Kind -> class of settings. Our own classes are imported when they are first looked up.

    The entry points of installed packages are imported when the registry is first read. One that
    cannot be used is left out; ``broken`` holds one line on each, by kind.
    """

    def __init__(
        self,
        noun: str,
        plural: str,
        base: str,
        built_in: Mapping[str, str],
        requires: tuple[str, ...] = (),
    ) -> None:
        self.noun, self.plural = noun, plural
        self.broken: dict[str, str] = {}
        #: Counts changes, so that what was built from the registry is known to be out of date.
        self.version = 0
        self._base, self._requires = base, requires
        self._places = dict(built_in)  # kind -> "module:Class"
        self._classes: dict[str, type[T]] = {}
        self._from_python: set[str] = set()
        self._has_read_entry_points = False

    @property
    def base(self) -> type[T]:
        """The class that all members derive from."""
        base: type[T] = _find(self._base)
        return base

    def __getitem__(self, kind: str) -> type[T]:
        self.read_entry_points()
        return self._class(kind)

    def __iter__(self) -> Iterator[str]:
        self.read_entry_points()
        return iter(list(self._places))

    def __len__(self) -> int:
        self.read_entry_points()
        return len(self._places)

    def known(self) -> dict[str, type[T]]:
        """What is registered at this moment; imports our own classes, and no entry points."""
        return {kind: self._class(kind) for kind in list(self._places)}

    def from_python(self) -> list[type[T]]:
        """The classes that :func:`register` added."""
        return [self._classes[kind] for kind in sorted(self._from_python)]

    def add(self, cls: type[T]) -> None:
        """Registers a class under its kind. Raises UsageError where that cannot be.

        A class of the same module and name is replaced, so that a notebook's cell can run again.
        """
        kind = getattr(cls, "kind", "")
        self.read_entry_points()
        if problem := self._problem(cls, kind):
            raise UsageError(f"{_place(cls)} cannot be registered: it {problem}")
        if kind in self._places and self._places[kind] != _place(cls):
            raise UsageError(
                f"{_place(cls)} cannot be registered: "
                f"{self._places[kind]} already has the kind {kind!r}"
            )
        self._from_python.add(kind)
        self._put(kind, cls)

    def read_entry_points(self) -> None:
        """Imports the entry points of installed packages, once."""
        if self._has_read_entry_points:
            return
        self._has_read_entry_points = True  # a package may call register when it is imported
        found = metadata.entry_points(group=f"ntm.{self.plural}")
        for entry in sorted(found, key=lambda e: (_package(e), e.name, e.value)):
            if problem := self._plug_in(entry):
                line = f"{_package(entry)}: the {self.noun} {entry.name} cannot be used: {problem}"
                self.broken.setdefault(entry.name, line)

    def _plug_in(self, entry: metadata.EntryPoint) -> str | None:
        """Registers the class of an entry point, or says why it cannot be used."""
        taken = self._places.get(entry.name)
        if taken is not None and taken != entry.value:
            return f"{taken} already has this kind"
        try:
            cls = entry.load()
        except (Exception, SystemExit) as error:  # whatever a module does when it is imported
            lines = str(error).strip().splitlines()
            return f"{entry.value}: {type(error).__name__}: {lines[0] if lines else 'no message'}"
        if problem := self._problem(cls, entry.name):
            return f"{entry.value} {problem}"
        self._put(entry.name, cls)
        return None

    def _problem(self, cls: Any, kind: str) -> str | None:
        """Why a class cannot be registered under a kind, as the rest of a sentence about it."""
        base = self.base
        if not (isinstance(cls, type) and issubclass(cls, base)):
            return f"should be a class that derives from {self._base.replace(':', '.')}"
        params = vars(cls).get("__dataclass_params__")
        if not is_dataclass(cls) or not hasattr(cls, "__pydantic_validator__") or not params:
            return "should be a pydantic dataclass"
        if not params.frozen:
            return "should be frozen: @dataclass(frozen=True, kw_only=True, config=STRICT)"
        if not kind or getattr(cls, "kind", None) != kind:
            return f"should have the kind {kind!r}, not {getattr(cls, 'kind', None)!r}"
        if inspect.isabstract(cls):
            return f"does not define {', '.join(sorted(cls.__abstractmethods__))}"
        for name in self._requires:
            if not hasattr(cls, name):
                return f"has no {name}, which reports call it by"
        return None

    def _class(self, kind: str) -> type[T]:
        if kind not in self._classes:
            self._classes[kind] = _find(self._places[kind])
        return self._classes[kind]

    def _put(self, kind: str, cls: type[T]) -> None:
        self._places[kind], self._classes[kind] = _place(cls), cls
        self.broken.pop(kind, None)
        self.version += 1


def _find(place: str) -> Any:
    """The object at ``module:name``."""
    module, _, name = place.partition(":")
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _place(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _package(entry: metadata.EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


TASKS: Registry[Any] = Registry(
    "task",
    "tasks",
    "tasks.base:Task",
    {
        "copy": "tasks.copy:Copy",
        "repeat_copy": "tasks.repeat_copy:RepeatCopy",
        "associative_recall": "tasks.associative_recall:AssociativeRecall",
        "ngram": "tasks.ngram:NGram",
        "priority_sort": "tasks.priority_sort:PrioritySort",
        "charlm": "tasks.charlm:CharLM",
        "autocomplete": "tasks.autocomplete:Autocomplete",
    },
)

CONTROLLERS: Registry[Any] = Registry(
    "controller",
    "controllers",
    "controllers.base:ControllerConfig",
    {
        "echo_state": "controllers.echo_state:EchoStateConfig",
        "feedforward": "controllers.feedforward:FeedForwardConfig",
        "gru": "controllers.gru:GRUConfig",
        "gru1": "controllers.reduced_gru:GRU1Config",
        "gru2": "controllers.reduced_gru:GRU2Config",
        "gru3": "controllers.reduced_gru:GRU3Config",
        "leaky": "controllers.leaky:LeakyConfig",
        "lstm": "controllers.lstm:LSTMConfig",
        "nested_lstm": "controllers.nested_lstm:NestedLSTMConfig",
        "peephole_lstm": "controllers.peephole_lstm:PeepholeLSTMConfig",
        "rnn": "controllers.rnn:RNNConfig",
    },
    requires=("name",),
)

MEMORIES: Registry[Any] = Registry(
    "memory",
    "memories",
    "ntm.memory.base:MemoryConfig",
    {"ntm": "ntm.memory.ntm:NTMConfig", "sparse": "ntm.memory.sparse:SparseConfig"},
    requires=("name",),
)

_ALL: tuple[Registry[Any], ...] = (TASKS, CONTROLLERS, MEMORIES)


def register(cls: type[T]) -> type[T]:
    """Adds a task, a controller's or a memory's settings from Python; may be used as a decorator.

        @ntm.register
        @dataclass(frozen=True, kw_only=True, config=STRICT)
        class MGUConfig(ControllerConfig): ...

    The class holds for this process. Child processes, as a sweep starts them, import it from its
    module, so there it cannot come from a notebook. Raises UsageError for a class of another kind,
    and for a ``kind`` that another class has.
    """
    for registry in _ALL:
        if isinstance(cls, type) and issubclass(cls, registry.base):
            registry.add(cls)
            return cls
    bases = ", ".join(registry.base.__name__ for registry in _ALL)
    raise UsageError(
        f"{cls!r} cannot be registered: it should be a class that derives from {bases}"
    )


def load_plugins() -> int:
    """Reads the entry points of all installed packages, once. Returns the registries' version."""
    for registry in _ALL:
        registry.read_entry_points()
    return sum(registry.version for registry in _ALL)


def kinds() -> dict[str, list[str]]:
    """All kinds, for ``ntm list``. Imports nothing heavy unless another package adds kinds."""
    return {registry.plural: sorted(registry) for registry in _ALL}


def troubles() -> list[str]:
    """One line for every entry point that cannot be used, with its package and the reason."""
    load_plugins()
    return [line for registry in _ALL for line in registry.broken.values()]


def unknown_kind(kind: str, known: Iterable[str]) -> str:
    """What is wrong with a kind that is not among those known, and what would be right."""
    for registry in _ALL:
        if kind in registry.broken:
            return registry.broken[kind]
    near = difflib.get_close_matches(kind, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{kind!r} is not one of {', '.join(known)}{hint}"


def registered() -> list[str]:
    """``module:Class`` of the classes registered from Python that a child process can import."""
    classes = [cls for registry in _ALL for cls in registry.from_python()]
    return [_place(cls) for cls in classes if _is_importable(cls)]


def register_from(place: str) -> None:
    """Registers the class at ``module:Class``, as :func:`registered` gives it to a child."""
    try:
        cls = _find(place)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"{place} cannot be registered: {error}") from None
    register(cls)


def require_importable(*settings: object) -> None:
    """Refuses settings whose class a child process cannot import, such as one from a notebook."""
    for cls in (type(one) for one in settings if one is not None):
        if not _is_importable(cls):
            raise UsageError(
                f"{cls.__qualname__}: was defined in {cls.__module__} and cannot be imported from "
                "there by another process: put it into a module of its own"
            )


def _is_importable(cls: type) -> bool:
    if cls.__module__ == "__main__" or "<locals>" in cls.__qualname__:
        return False
    try:
        return _find(_place(cls)) is cls
    except (ImportError, AttributeError):
        return False


@dataclass(frozen=True, eq=False)
class Kinds:
    """In an annotation: a block of a config is validated as the registered class of its ``kind``.

    ``AnyTask = Annotated[Task, Kinds(TASKS)]``. The choice is among what is registered when the
    schema is built; an object that was made in Python is taken as it is. ``default`` is the kind of
    a block without one.
    """

    registry: Registry[Any]
    default: str | None = None

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        from pydantic_core import core_schema

        choices = {k: handler.generate_schema(cls) for k, cls in self.registry.known().items()}
        block: CoreSchema = core_schema.tagged_union_schema(choices, discriminator="kind")
        if self.default is not None:
            block = core_schema.no_info_before_validator_function(self._with_default, block)
        made = core_schema.is_instance_schema(self.registry.base)
        return core_schema.json_or_python_schema(json_schema=block, python_schema=made)

    def _with_default(self, value: Any) -> Any:
        return {"kind": self.default, **value} if isinstance(value, dict) else value

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        found = handler(schema)
        if self.default is not None:
            found["discriminator"]["default"] = self.default
        return found
