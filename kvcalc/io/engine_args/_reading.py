"""Interprets one command line by its program's tables: the effect of each flag on the cache or other memory."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher, get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

from kvcalc.engines.base import engine_class
from kvcalc.engines.base.reading import OFF, ON, Kind, kinds_of, read_value
from kvcalc.errors import InvalidValueError
from kvcalc.io.engine_args._command import Command, Refusal, Said, Weighed
from kvcalc.io.engine_args._devices import visible_gpus
from kvcalc.io.engine_args._line import Stray, Unknown, divided, plain, with_digits
from kvcalc.io.engine_args._program import Program
from kvcalc.io.engine_args._removed import removed_in, removed_words
from kvcalc.io.engine_args._rows import Degree, Flag, Given, Names, Sets, Variable
from kvcalc.io.engine_args._secrets import could_be_secret, value_shown, variable_shown, without_secrets
from kvcalc.io.engine_args._shell import UNKNOWN, is_left_open

if TYPE_CHECKING:
    from kvcalc.fleet.adapters import Adapters
    from kvcalc.fleet.pooled_adapters import PooledAdapters

_MATTERS = re.compile(
    r"cache|kv|mem|block|page|parallel|batch|seqs|ctx|context|len|dtype|mamba|spec|draft|window|swa|attention|attn|"
    r"offload|quant|layer|lora|gpu|device|expert|ep\b|dp\b|model|config|slot|static|chunk|override|rope"
)
_TYPO, _NEAR = 0.85, 0.6
"""Similarity (up to 1) of a misspelt name to the intended one; and of names worth suggesting."""
_LEFT_OPEN = "an unfilled placeholder"
_OF_SCRIPT = ("${@}", "${*}")
_MODEL = Names("model")
_SEVERAL_NODES = ("nnodes", "distributed-executor-backend", "dist-init-addr", "enable-dp-attention", "attn-dp-size")
_LEAVE_OUT = "remove it if it does not matter"
_MUST_BE = {"count": "a whole number", "number": "a number", "json": "a JSON object", "flag": "true or false"}


class Place(NamedTuple):
    """Subject of a message, and its position among the words."""

    spelled: str
    at: int | None = None


class Reading:
    """Turns a command line of `program` into a Command.

    before: words before its arguments. defaults: settings of this way of starting it, if not the program's.
    """

    def __init__(
        self,
        name: str,
        program: Program,
        version: str | None = None,
        *,
        before: int = 0,
        defaults: Mapping[str, object] | None = None,
    ) -> None:
        self.program = program
        self.version = version
        self.settings: dict[str, Any] = dict(program.defaults if defaults is None else defaults)
        self.parallel: dict[str, int] = {}
        self.overrides: dict[str, Any] = {}
        self.model: str | None = None
        self.draft: str | None = None
        self.tokens = program.tokens
        self.role: str | None = None
        self.gpus: int | None = None
        self.offloaded_bytes = 0
        self.adapters: dict[str, Any] | None = None
        self._name = name
        self._before, self._of_file, self._of_line = before, 0, 0
        self._kinds: Mapping[str, Kind] = kinds_of(engine_class(program.engine)) if program.engine else {}
        self._args: dict[str, Any] = {}
        self._told: list[Said] = []
        self._ignored: list[Said] = []
        self._refused: list[Refusal] = []
        self._weighed: list[Weighed] = []
        self._given: dict[str, Given] = {}
        self._model_at: int | None = None
        self._names_model = False
        self.has_file = False
        self.has_lmcache_file = False

    # The whole line -------------------------------------------------------------------------------------------------

    def read(self, words: Sequence[str], variables: Mapping[str, str], of_file: Sequence[str] | None = None) -> Command:
        """The parsed command, with mistakes in `refused`. of_file: words of a file named by the line."""
        line = divided(self._joined(words, of_file), self.program, removed_in(self.program, self.version))
        self.has_file = of_file is not None
        self._names_model = any(given.flag.does == _MODEL for given in line.given)
        for stray in line.strays:
            self._stray(stray)
        for given in line.wrong:
            self.refuse(given, "it has no value", f"write {given.spelled} VALUE or {given.spelled}=VALUE", wrong=True)
        for unknown in line.unknown:
            self._unknown(unknown)
        self._given = {**self._by_variables(variables), **{given.flag.name: given for given in line.given}}
        for given in sorted(self._given.values(), key=lambda given: not isinstance(given.flag.does, Degree)):
            self._read(given)
        self.gpus = visible_gpus(variables) if self.gpus is None else self.gpus
        self._check_gpus()
        if self.program.engine is None:
            why = f"{self.program.title} is not modelled; what decides its cache is {self.program.decides}"
            self.refuse(Place(self.program.title), why, "size its model with --engine ideal, or another engine")
        return self._command()

    def _check_gpus(self) -> None:
        """Notes if the ranks of one node exceed its visible GPUs."""
        ranks = self.parallel.get("tp", 1) * self.parallel.get("pp", 1)
        if self.gpus is not None and ranks > self.gpus and not any(map(self.has, _SEVERAL_NODES)):
            self.tell(
                Place("GPUs"), f"{ranks} ranks are requested, but {self.gpus} GPUs are visible: it would not start"
            )

    def _joined(self, words: Sequence[str], of_file: Sequence[str] | None) -> list[str]:
        """The words of a file and of the line; later ones take precedence."""
        file_wins = self.program.file_wins
        self._of_file = 0 if of_file is None or file_wins else len(of_file)
        self._of_line = len(words)
        return [*words, *(of_file or ())] if file_wins else [*(of_file or ()), *words]

    def _adapters(self) -> Adapters | PooledAdapters | None:
        if self.adapters is None:
            return None
        from kvcalc.fleet.adapters import Adapters
        from kvcalc.fleet.pooled_adapters import PooledAdapters

        return (PooledAdapters if self.program.engine == "sglang" else Adapters)(**self.adapters)

    def _command(self) -> Command:
        return Command(
            program=self._name,
            title=self.program.title,
            engine=self.program.engine,
            version=self.version,
            model=self.model,
            args=self._args,
            settings=self.settings,
            parallel=self.parallel,
            tokens=self.tokens,
            length=self.tokens or self._length(),
            draft=self.draft,
            overrides=self.overrides,
            offloaded_bytes=self.offloaded_bytes,
            adapters=self._adapters(),
            gpus=self.gpus,
            role=self.role,
            told=tuple(dict.fromkeys(self._told)),
            ignored=tuple(dict.fromkeys(self._ignored)),
            refused=tuple(dict.fromkeys(self._refused)),
            weighed=tuple(dict.fromkeys(self._weighed)),
            model_at=self._model_at,
        )

    def _length(self) -> int | None:
        """The longest request by a setting; -1 means none."""
        length = self.settings.get(self.program.length)
        return length if isinstance(length, int) and length > 0 else None

    def _read(self, given: Given) -> None:
        """One flag, unless its program refuses the spelling."""
        note = removed_words(given.flag, self.program, self.version)
        if note:
            self.tell(given, note)
        if given.flag.takes == "switch" and given.values:
            self._switch_with_value(given)
            return
        before = len(self._refused)
        given.flag.does.read(given, self)
        is_wrong = any(refusal.wrong for refusal in self._refused[before:])
        if given.flag.does.decides and not is_wrong:
            self._args[given.flag.name] = self._plain(given)

    def _switch_with_value(self, given: Given) -> None:
        says = given.text.lower()
        if given.flag.does.decides and says in (*ON, *OFF):
            self._args[given.flag.name] = (says in ON) != given.off
        name = given.flag.name
        self.refuse(
            given,
            f"it takes no value in {self.program.title}",
            f"write --{name} without a value, or --no-{name}",
            wrong=True,
        )

    def _plain(self, given: Given) -> Any:
        """The value in normal form: numbers as numbers, switches as true or false, JSON as an object."""
        does = given.flag.does
        written = plain(given.text) if given.values else not given.off
        held: Any = given.parts
        if held is None and isinstance(does, Sets):
            held = self.settings.get(does.setting)
            held = None if given.text in does.instead and not isinstance(held, str) else held
        elif isinstance(does, Degree):
            held = self.parallel.get(does.degree)
        elif isinstance(does, Names):
            held = self.tokens
        return without_secrets(written if held is None else held)

    # Called by rows -------------------------------------------------------------------------------------------

    def value(self, given: Given, name: str, instead: Mapping[str, object] | None = None) -> Any:
        """Value of a flag, typed as the engine's field `name`; None if invalid, which is refused."""
        kind = self._kinds.get(name, "count")
        if given.parts is not None and kind == "json":
            return given.parts
        if given.flag.takes == "switch" or (kind == "flag" and not given.values):
            return not given.off
        text = given.text if given.values else "on"
        if instead and text.lower() in instead:
            return instead[text.lower()]
        if self.is_unknown(given, text):
            return None
        value = self._typed(given, text, kind)
        return (not value) if kind == "flag" and given.off else value

    def _typed(self, given: Given, text: str, kind: Kind) -> Any:
        """A value of a kind; None if invalid, which is refused."""
        if kind == "text" and could_be_secret(text):
            what = f"{value_shown(text)} that could be a secret"
            self.refuse(given, what, "write a value that the engine accepts", wrong=True)
            return None
        try:
            return read_value(with_digits(text) if kind == "number" else text, kind, given.spelled)
        except InvalidValueError as error:
            what = f"must be {_MUST_BE.get(kind, 'another value')}, not {value_shown(text)}"
            self.refuse(given, what, error.help, wrong=True)
            return None

    def is_unknown(self, about: Given | Place, text: str) -> bool:
        """Whether a value contains an unset variable or template, which is then refused."""
        match = UNKNOWN.search(text)
        if match is None and is_left_open(text):
            self.refuse(about, _LEFT_OPEN, "write its value", wrong=True)
            return True
        if match is None:
            return False
        name = re.search(r"[A-Za-z_][\w.]*|\d", match[0])
        if match[0].startswith("{{"):
            what = "an unrendered template"
        elif match[0].startswith("<"):
            what = _LEFT_OPEN
        else:
            is_set = f"{variable_shown(name[0])} is an unset variable" if name else ""
            what = is_set or "the output of a command, which is not run"
        self.refuse(about, what, "write its value", wrong=True)
        return True

    def names(self, what: str, given: Given) -> None:
        """Sets the model, or the tokens of a context."""
        if what == "tokens":
            self.tokens = self.value(given, "") or None
        else:
            self._model(given, given.text, given.at)

    def _model(self, about: Given | Place, text: str, at: int | None) -> None:
        if self.is_unknown(about, text):
            self._model_at = self._place(at)
        elif could_be_secret(text):
            self.refuse(about, "it could be a secret rather than a model", "write the model's name or path", wrong=True)
        else:
            self.model, self._model_at = text, self._place(at)

    def knows(self, setting: str) -> bool:
        """Whether the engine has this setting."""
        return setting in self._kinds

    def has(self, name: str) -> bool:
        """Whether a flag is given."""
        return name in self._given

    @property
    def has_replicas(self) -> bool:
        """Whether there are several replicas."""
        return self.parallel.get("dp", 1) > 1

    def weighs(self, given: Given, why: str, needs: str) -> None:
        """Records what a fit of weights and cache must know."""
        self._weighed.append(Weighed(given.spelled, why, needs, self._place(given.at)))
        self.ignores(given, why)

    def ignores(self, given: Given, why: str, *, tells: bool = False) -> None:
        """Records that a flag does not change the cache."""
        self._ignored.append(Said(given.spelled, why, self._place(given.at)))
        if tells:
            self.tell(given, why)

    def tell(self, about: Given | Place, why: str) -> None:
        """Records a note."""
        self._told.append(Said(about.spelled, why, self._place(about.at)))

    def refuse(self, about: Given | Place, why: str, help: str = _LEAVE_OUT, *, wrong: bool = False) -> None:
        """Refuses a flag or a variable by name. wrong: the engine would refuse it, too."""
        self._refused.append(Refusal(about.spelled, why, help, wrong, self._place(about.at)))

    def _place(self, at: int | None) -> int | None:
        """Position among all words of the command; None for files and variables."""
        on_line = None if at is None else at - self._of_file
        return None if on_line is None or not 0 <= on_line < self._of_line else on_line + self._before

    # Unknown words ---------------------------------------------------------------------------------------------

    def _stray(self, stray: Stray) -> None:
        """A positional word: the model, if the program takes it so."""
        place = self._place(stray.at)
        about = Place("a word of the file" if place is None else f"word {place + 1}", stray.at)
        if stray.word in _OF_SCRIPT:
            self.tell(Place("the script's own arguments", stray.at), "none assumed")
        elif stray.word.startswith("-") and len(stray.word) > 1:
            flag = re.match(r"--?[A-Za-z][A-Za-z-]*", stray.word)
            name = flag[0] if flag and not could_be_secret(flag[0].lstrip("-")) else "a flag"
            what = f"{name} and its value are one word, which {self.program.title} reads as the name of the model"
            self.refuse(about, what, "write them as two words, or join them with =", wrong=True)
        elif self.program.takes_model and not self._names_model and self._model_at is None:
            self._model(about, stray.word, stray.at)
        elif not self.program.takes_text and not self.is_unknown(about, stray.word):
            self.refuse(about, "it does not belong to any flag", "write --flag value or --flag=value", wrong=True)

    def _unknown(self, unknown: Unknown) -> None:
        """An unknown flag: refused if it could decide the cache, otherwise reported."""
        about = Place(unknown.spelled, unknown.at)
        if unknown.could_be:
            meant = " or ".join(f"--{name}" for name in unknown.could_be[:4])
            self.refuse(about, "it is a prefix of several flags", f"did you mean {meant}?", wrong=True)
            return
        key = unknown.name.partition(".")[0][:80]
        near = get_close_matches(key, self.program.that_matter, n=3, cutoff=_NEAR)
        meant = f"did you mean {' or '.join(f'--{name}' for name in near)}? Otherwise " if near else ""
        if any(SequenceMatcher(None, key, name).ratio() >= _TYPO for name in self.program.that_matter):
            self.refuse(about, f"not a known flag of {self.program.title}", f"{meant}{_LEAVE_OUT}")
        elif _MATTERS.search(key.lower()):
            self.refuse(about, "its effect on memory is unknown", f"{meant}{_LEAVE_OUT}")
        else:
            what = f"not a known flag of {self.program.title}; its name does not suggest an effect on memory"
            self.tell(about, what)

    # Variables -------------------------------------------------------------------------------------------------

    def _by_variables(self, variables: Mapping[str, str]) -> dict[str, Given]:
        """Flags given by variables."""
        rows = {row.name: row for row in self.program.variables}
        found: dict[str, Given] = {}
        for name, value in variables.items():
            row = rows.get(name)
            if row is not None:
                found[row.flag.name] = _of_variable(row, value)
            elif name.startswith(self.program.own_variables) and not _is_one(name, self.program.harmless):
                self._other_variable(name)
        return found

    def _other_variable(self, name: str) -> None:
        about = Place(variable_shown(name))
        if _is_one(name, self.program.not_served):
            self.refuse(about, "what it starts has no decoder with a KV cache", "size a language model")
        elif _MATTERS.search(name.lower()):
            self.refuse(about, "its effect on memory is unknown", "remove the variable if it does not matter")
        else:
            self.tell(about, f"not a known variable of {self.program.title}")


def _of_variable(row: Variable, value: str) -> Given:
    flag: Flag = row.flag
    if flag.takes == "switch":
        return Given(flag, row.name, (), value.lower() in (*OFF, ""))
    return Given(flag, row.name, (value,))


def _is_one(name: str, patterns: Sequence[str]) -> bool:
    return any(name == one or (one.endswith("*") and name.startswith(one[:-1])) for one in patterns)
