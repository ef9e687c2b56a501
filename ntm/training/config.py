"""YAML and ``--set`` -> a typed, validated, frozen :class:`Config`."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

import configs
from ntm.errors import UsageError
from ntm.kernels.dispatch import Engine
from ntm.model import ModelConfig
from ntm.training import family
from tasks import AnyTask, Task
from tasks.losses import BITS

STRICT = ConfigDict(extra="forbid", strict=True)

Positive = Annotated[float, Field(gt=0, le=1e6)]
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GravesRMSpropConfig:
    """:class:`ntm.training.optim.GravesRMSprop`, with the paper's constants."""

    kind: Literal["graves_rmsprop"]
    lr: Positive = 1e-4
    momentum: Fraction = 0.9
    decay: Fraction = 0.95
    eps: Positive = 1e-4


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RMSpropConfig:
    """torch.optim.RMSprop."""

    kind: Literal["rmsprop"]
    lr: Positive = 1e-4
    momentum: Fraction = 0.9
    alpha: Fraction = 0.95
    eps: Positive = 1e-8
    centered: bool = False


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AdamConfig:
    """torch.optim.Adam or AdamW."""

    kind: Literal["adam", "adamw"]
    lr: Positive = 1e-3
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: float = Field(default=0.0, ge=0, le=1e6)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RidgeConfig:
    """:class:`ntm.training.optim.Ridge`: the readout in closed form, for an echo state network.

    penalty: of the squared weights, against the sum of squared errors over all scored steps.
    """

    kind: Literal["ridge"]
    penalty: Positive = 0.01

    lr: ClassVar[float] = 1.0  # all the way to the solution


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ClipConfig:
    """Gradients clipped elementwise to (-value, value), or scaled down to a total norm.

    weights: and, before that, at every time step on the way back, the derivatives by the heads'
        weights, elementwise. Sharpening makes small differences of weights grow from step to
        step, so these are what explodes.
    """

    value: Positive | None = None
    norm: Positive | None = None
    weights: Positive | None = None

    @model_validator(mode="after")
    def _one(self) -> ClipConfig:
        if (self.value is None) == (self.norm is None):
            raise ValueError("should be either {value: ...} or {norm: ...}")
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ScheduleConfig:
    """The step size: a linear warm-up, then constant, or falling to ``final``.

    linear, cosine and exponential fall over the budget. A cooldown waits for the task to be
    understood: once validation is less than ``below`` bits above the floor, the step size falls
    linearly over ``over`` sequences, and then training ends, if some validation was below
    ``solved_bits``; if none was, the step size returns.
    """

    kind: Literal["constant", "linear", "cosine", "exponential", "cooldown"] = "constant"
    warmup: int = Field(default=0, ge=0)  # sequences
    final: float = Field(default=0.0, ge=0, le=1)  # as a share of lr
    below: Positive | None = None  # bits
    over: int | None = Field(default=None, ge=1)  # sequences

    @model_validator(mode="after")
    def _cooldown_is_whole(self) -> ScheduleConfig:
        for name in ("below", "over"):
            given = getattr(self, name) is not None
            if given != (self.kind == "cooldown"):
                word = "belongs to" if given else "is missing for"
                raise ValueError(f"{name}: {word} the kind cooldown")
        if self.kind == "exponential" and not self.final:
            raise ValueError("final: an exponential never comes to 0: should be more, such as 0.01")
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CurriculumConfig:
    """Training begins with the settings ``task``, which grow to the task's own as they are learned.

    below: bits a scored step. Whenever the mean cost of the last ``every`` sequences is less, the
        task grows: the whole number that has furthest to go by 1, the others and shares in
        proportion; where only shares are named, in one step. Of ranges the upper end grows; the
        lower end stays where it begins until all is over.
    """

    task: dict[str, Any]
    below: Positive
    every: int = Field(default=1000, ge=1)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainConfig:
    """How a model is trained. Everything is counted in sequences, whatever the batch.

    lost: a machine is lost when validation costs so many times what it cost at its best, or
        ``solved_bits`` where that is more. Then training goes back to the best weights; step size,
        optimiser and curriculum stay as they are. None never goes back.
    slots: from how few to how many the memory has in training, drawn for every batch, as often few
        as many on a logarithmic scale. A machine that has met memories of many sizes does not come
        to depend on that of one. Validation has ``model.memory.slots``.
    segment: trade time for memory on long sequences. Without it the history of a whole sequence
        is kept for the backward pass; with it, the state every ``segment`` steps, from which the
        backward pass runs forward again. The gradients are the same; the fused engine only.
    snapshots: weights to keep along the way, at most so many, evenly spaced over the validations:
        for ``ntm plot --learning``.
    """

    optimizer: Annotated[
        GravesRMSpropConfig | RMSpropConfig | AdamConfig | RidgeConfig, Field(discriminator="kind")
    ]
    clip: ClipConfig | None = None
    schedule: ScheduleConfig = ScheduleConfig()
    curriculum: CurriculumConfig | None = None
    lost: Annotated[float, Field(gt=1, le=1e6)] | None = None
    batch: int = Field(default=1, ge=1)
    sequences: int = Field(default=100_000, ge=1)  # the budget
    solved_bits: float = Field(default=0.1, ge=0)  # above the floor; 0 is never solved
    slots: tuple[Count, Count] | None = None
    segment: int | None = Field(default=None, ge=1)  # steps between the states that are kept
    report_every: int = Field(default=100, ge=1)
    checkpoint_every: int = Field(default=1000, ge=1)
    snapshots: int = Field(default=0, ge=0, le=1000)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ValidationConfig:
    """The fixed episodes that decide when training is solved, and which weights are kept."""

    every: int = Field(default=500, ge=1)  # sequences
    episodes: int = Field(default=100, ge=1, le=100_000)
    task: dict[str, Any] = Field(default_factory=dict)  # settings that differ from training's


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """A whole run."""

    task: AnyTask
    model: ModelConfig
    train: TrainConfig
    validation: ValidationConfig = ValidationConfig()
    engine: Engine = "auto"
    seed: int = Field(default=1, ge=0)

    @model_validator(mode="after")
    def _clips_what_is_there(self) -> Config:
        if self.model.memory is None and self.train.clip and self.train.clip.weights is not None:
            raise ValueError("train.clip.weights: a baseline has no heads")
        return self

    @model_validator(mode="after")
    def _memory_can_grow(self) -> Config:
        if self.train.slots is not None:
            if self.model.memory is None:
                raise ValueError("train.slots: a baseline has no memory")
            if self.model.memory.first == "learned":
                raise ValueError(
                    "train.slots: a learned first memory has the slots that it has, so "
                    "model.memory.first should be constant"
                )
            if self.train.slots[0] > self.train.slots[1]:
                raise ValueError("train.slots: should be [fewest, most]")
        return self

    @model_validator(mode="after")
    def _ridge_fits_readouts(self) -> Config:
        fixed = self.model.controller.kind == "echo_state" and self.model.memory is None
        if isinstance(self.train.optimizer, RidgeConfig) and not fixed:
            raise ValueError(
                "train.optimizer.kind: ridge fits the readout alone, so it is for an echo_state "
                "controller without a memory, which has nothing else to learn"
            )
        if isinstance(self.train.optimizer, RidgeConfig) and self.task.loss is not BITS:
            raise ValueError(
                "train.optimizer.kind: ridge fits outputs that are bits, and "
                f"{self.task.kind} asks for one of many classes"
            )
        if isinstance(self.train.optimizer, RidgeConfig) and self.train.schedule.kind != "constant":
            raise ValueError(
                "train.schedule.kind: should be constant with ridge, which has no step size"
            )
        return self

    @model_validator(mode="after")
    def _can_go_back(self) -> Config:
        if self.train.lost is not None:
            if isinstance(self.train.optimizer, RidgeConfig):
                raise ValueError("train.lost: ridge takes no steps that could be too large")
            if not self.train.solved_bits:
                raise ValueError("train.lost: needs a train.solved_bits above 0, to be measured by")
        return self

    @model_validator(mode="after")
    def _the_whole_input_is_there(self) -> Config:
        if self.model.form != "causal" and not self.task.answers_last:
            raise ValueError(
                f"model.form: {self.model.form} reads the whole input before it answers, and "
                f"{self.task.kind} answers as it goes"
            )
        return self

    @model_validator(mode="after")
    def _cooldown_can_begin(self) -> Config:
        below = self.train.schedule.below
        if below is not None and below < self.train.solved_bits:
            raise ValueError(
                "train.schedule.below: a cooldown begins no later than the task is solved, so it "
                f"should be at least train.solved_bits, {self.train.solved_bits:g}"
            )
        return self

    @model_validator(mode="after")
    def _validation_fits(self) -> Config:
        as_tested(self.task, self.validation.task, "validation.task")
        return self

    @model_validator(mode="after")
    def _curriculum_grows(self) -> Config:
        if self.train.curriculum is None:
            return self
        where = "train.curriculum.task"
        first = with_settings(self.task, self.train.curriculum.task, where)
        for name in self.train.curriculum.task:
            ends = getattr(first, name), getattr(self.task, name)
            numbers = [n for end in ends for n in (end if isinstance(end, tuple) else [end])]
            kinds = {type(n) for n in numbers}
            if kinds != {int} and (kinds != {float} or len(numbers) > 2):
                raise ValueError(
                    f"{where}.{name}: only numbers, and ranges of whole ones, can grow"
                )
        return self

    @property
    def validation_task(self) -> Task:
        """The task that validation draws from."""
        return with_settings(self.task, self.validation.task, "validation.task").held_out(
            "validation"
        )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class _Member(Config):
    """A config of a family: its controller is as large as the budget allows, or as it says."""

    parameters: int | None = Field(default=None, ge=1, le=10**12)


_T = TypeVar("_T")
_CONFIG: TypeAdapter[Config] = TypeAdapter(Config)
_MEMBER: TypeAdapter[_Member] = TypeAdapter(_Member)
_TASK: TypeAdapter[Task] = TypeAdapter(AnyTask)


def load_config(source: str | Path, settings: Iterable[str] = ()) -> Config:
    """The config at a path, or of a shipped name (``copy/ntm-lstm``), with settings applied.

    One of a family is FAMILY:MODEL, such as ``compare/copy:lstm``. Settings are applied before its
    controller's size is chosen, so that it keeps to the budget whatever they are.
    """
    path, name = find_config(source)
    raw = _read_yaml(path)
    if name is not None:
        raw = family.member(raw, name, str(source).rpartition(":")[0])
    elif family.is_family(raw):
        names = ", ".join(family.members(raw, str(source)))
        raise UsageError(
            f"{source}: is a family; {source}:MODEL is one of it, and ntm sweep {source} runs them "
            f"all. Its models are {names}"
        )
    for setting in settings:
        _apply(raw, *_split(setting))
    if name is None:
        return _validate(_CONFIG, raw, str(path))
    return _sized(_validate(_MEMBER, raw, f"{path}:{name}"), raw, f"{path}:{name}")


def _sized(given: _Member, raw: dict[str, Any], source: str) -> Config:
    """An ordinary config, in which the size of the controller is a number."""
    values = {field.name: getattr(given, field.name) for field in dataclasses.fields(Config)}
    if given.parameters is not None and "size" not in raw["model"]["controller"]:
        try:
            values["model"] = family.fit(given.model, given.task, given.parameters)
        except UsageError as error:
            raise UsageError(f"{source}: {error}") from None
    return Config(**values)


def expand(source: str) -> list[str]:
    """The configs that a CONFIG argument stands for: of a family, all of it."""
    path, name = find_config(source)
    raw = _read_yaml(path)
    if name is not None or not family.is_family(raw):
        return [source]
    return [f"{source}:{name}" for name in family.members(raw, source)]


def short_name(source: str) -> str:
    """A config's name as the folder of its runs."""
    path, name = find_config(source)
    return path.stem if name is None else name


def usual_folder(source: str, task: Task) -> Path:
    """Where runs of a config are, below ``runs``; a family's models have a folder of their own."""
    path, name = find_config(source)
    return Path(task.kind) / (path.stem if name is None else f"{path.stem}-{name}")


def parse_config(raw: dict[str, Any], source: str) -> Config:
    """A config from plain data; ``source`` is what an error message names."""
    return _validate(_CONFIG, raw, source)


def find_config(source: str | Path) -> tuple[Path, str | None]:
    """The file that a CONFIG argument means, and the model in it where it says FAMILY:MODEL."""
    if path := _file(str(source)):
        return path, None
    text, colon, name = str(source).rpartition(":")
    if colon and (path := _file(text)):
        return path, name
    shipped = [*configs.shipped_configs(), *configs.shipped_families()]
    near = difflib.get_close_matches(text or name, shipped, n=1, cutoff=0.5)
    meant = f"{near[0]}:{name}" if near and colon else near[0] if near else ""
    hint = f"did you mean {meant}?" if near else "ntm list shows the shipped ones"
    raise UsageError(f"{source}: no such file, and no shipped config of that name; {hint}")


def _file(source: str) -> Path | None:
    """The file of this name, or of the shipped config or family of this name."""
    with contextlib.suppress(OSError, ValueError):  # a name that no file system takes
        if Path(source).is_file():
            return Path(source)
    if source in (*configs.shipped_configs(), *configs.shipped_families()):
        return configs.FOLDER / f"{source}.yaml"
    return None


def dump_config(config: Config) -> str:
    """The config as YAML, every setting resolved; ``load_config`` gives back an equal one."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def to_dict(config: Config) -> dict[str, Any]:
    """The config as plain data."""
    data: dict[str, Any] = _CONFIG.dump_python(config, mode="json")
    return data


def task_settings(settings: Iterable[str]) -> dict[str, Any]:
    """``["task.length=120"]`` -> ``{"length": 120}``; only keys of the task can change at test."""
    raw: dict[str, Any] = {}
    for setting in settings:
        key, value = _split(setting)
        if not key.startswith("task."):
            raise UsageError(
                f"--set {setting}: a trained run can only be given other settings of its task, "
                "such as task.length=120"
            )
        _apply(raw, key, value)
    settings_of_task: dict[str, Any] = raw.get("task", {})
    return settings_of_task


def with_settings(task: Task, settings: dict[str, Any], where: str = "task") -> Task:
    """The same task at other settings, for a model that was made for it.

    Everything that is not named stays, what was derived too.
    """
    raw = {**_TASK.dump_python(task, mode="json"), **settings}
    other = _validate(_TASK, raw, where, where)
    if (other.input_size, other.output_size) != (task.input_size, task.output_size):
        raise UsageError(
            f"{where}: the model has {task.input_size} inputs and {task.output_size} outputs, but "
            f"with {settings} the task has {other.input_size} and {other.output_size}"
        )
    return other


def as_tested(task: Task, settings: dict[str, Any], where: str = "task") -> Task:
    """The same task at other settings, for episodes that are held out.

    Raises UsageError for a setting that only training has.
    """
    other = with_settings(task, settings, where)
    held_out = other.held_out("test")
    for key in settings:
        if (value := getattr(held_out, key)) != getattr(other, key):
            raise UsageError(f"{where}.{key}: is for training alone; elsewhere it is {value}")
    return other


def _split(setting: str) -> tuple[str, Any]:
    key, equals, value = setting.partition("=")
    if not (key and equals):
        raise UsageError(f"--set {setting}: should be key=value, such as train.batch=4")
    try:
        return key, yaml.load(value, _Loader)  # noqa: S506 - a SafeLoader
    except _NOT_YAML as error:
        raise UsageError(f"--set {setting}: {_yaml_problem(error)}") from None


def _apply(raw: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        if raw.get(parent) is None:
            raw[parent] = {}
        raw = raw[parent]
        if not isinstance(raw, dict):
            raise UsageError(f"--set {key}: {parent} is a single value and has no keys")
    raw[last] = value


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number (as in YAML 1.2), and a key that stands twice is an error."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None, None, "a config has no use for aliases", self.get_mark()
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} should be a name", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


#: Beside errors of grammar: a number of thousands of digits, a date that is none, deep nesting.
_NOT_YAML = (yaml.YAMLError, ValueError, OverflowError, RecursionError)

_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not a text file") from None
    except _NOT_YAML as error:
        raise UsageError(f"{path}: {_yaml_problem(error)}") from None
    if not isinstance(raw, dict):
        raise UsageError(f"{path}: should hold the keys task, model and train")
    return raw


def _yaml_problem(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return (
            f"is not valid YAML: {error.problem} (line {mark.line + 1}, column {mark.column + 1})"
        )
    return f"is not valid YAML: {error}"


def _validate(adapter: TypeAdapter[_T], raw: Any, source: str, prefix: str = "") -> _T:
    """Validated as JSON: there lists may stand for tuples, and nothing else is converted."""
    try:
        text = json.dumps(raw, default=str)
    except (ValueError, RecursionError):
        raise UsageError(
            f"{source}: holds a number that is too long, or is nested too deeply"
        ) from None
    try:
        return adapter.validate_json(text)
    except UsageError as error:  # of validation.task
        problems = str(error).splitlines()
        raise UsageError("\n".join([f"{source}:", *(f"  {p}" for p in problems)])) from None
    except ValidationError as error:
        schema = adapter.json_schema()
        problems = [_problem(e, raw, schema, prefix) for e in error.errors()]
        if prefix:
            raise UsageError("\n".join(problems)) from None
        raise UsageError("\n".join([f"{source}:", *(f"  {p}" for p in problems)])) from None


def _problem(error: Any, raw: Any, schema: dict[str, Any], prefix: str) -> str:
    """One line on one error: the key, and what would be right."""
    kind, context = error["type"], error.get("ctx", {})
    # pydantic names the chosen member of a union in the path; a user does not write it.
    path: list[str] = [prefix] if prefix else []
    node, here = raw, _resolve(schema, schema, raw)
    for part in error["loc"]:
        present = isinstance(node, dict) and part in node
        if isinstance(part, int):
            path[-1] += f"[{part}]"
            continue
        if not present and kind not in ("missing", "missing_argument"):
            continue
        path.append(str(part))
        known = here.get("properties", {})
        if kind in ("extra_forbidden", "unexpected_keyword_argument") and part not in known:
            near = difflib.get_close_matches(str(part), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the keys here are {', '.join(known)}"
            return f"{'.'.join(path)}: no such key; {hint}"
        node = node.get(part) if isinstance(node, dict) else None
        here = _resolve(known.get(part, {}), schema, node)
    key = ".".join(path)

    if kind in ("missing", "missing_argument"):
        return f"{key}: is missing"
    if kind == "union_tag_not_found":
        return f"{key}.kind: is missing; should be one of {_tags(here)}"
    if kind == "union_tag_invalid":
        tags = context["expected_tags"].replace("'", "")
        near = difflib.get_close_matches(str(context["tag"]), tags.split(", "), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{key}.kind: {context['tag']!r} is not one of {tags}{hint}"
    if kind == "value_error":
        message = str(context["error"])
        separator = "." if re.match(r"[a-z_.]+: ", message) else ": "  # names one of its keys
        return f"{key}{separator}{message}" if key else message
    message = error["msg"].replace("Input should be", "should be")
    return f"{key}: {message}, not {json.dumps(error['input'], default=str)}"


def _resolve(node: dict[str, Any], root: dict[str, Any], raw: Any) -> dict[str, Any]:
    """The part of a JSON schema that describes ``raw``: follows references and chosen unions."""
    if "$ref" in node:
        return _resolve(root["$defs"][node["$ref"].rsplit("/", 1)[-1]], root, raw)
    if "discriminator" in node and isinstance(raw, dict):
        kind = raw.get("kind")
        reference = node["discriminator"]["mapping"].get(kind) if isinstance(kind, str) else None
        return _resolve({"$ref": reference}, root, raw) if reference else node
    for choice in node.get("anyOf", []):
        if "$ref" in choice:
            return _resolve(choice, root, raw)
    return node


def _tags(node: dict[str, Any]) -> str:
    return ", ".join(node.get("discriminator", {}).get("mapping", {}))
