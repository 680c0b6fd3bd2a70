"""Words of a shell text, with quotes, variables and arithmetic as in a POSIX shell. Nothing is ever run.

Unknown parts (unset variables, command output) stay in the word as `${NAME}`, `$(NAME)` or `$(...)`, so that messages
can name them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from kvcalc.errors import InvalidValueError

Value = str | tuple[str, ...]
BLANK, ENDS_WORD = " \t\r", " \t\r\n;|&()<>"
_OPERATOR = re.compile(r"&&|\|\||;;|\|&|[;|&()\n]")
_REDIRECTION = re.compile(r"\d*(&>>?|<<<|<<-?|>>|>&|<&|>\||<>|[<>])|&>>?")
_LEFT = re.compile(r"<([A-Za-z-][\w ./:|-]{0,60})>(?=[\s\"')]|$)")
"""`<model-name>`, a placeholder; a shell would redirect, which is not intended."""
_NAME = re.compile(r"[A-Za-z_]\w*")
_SPECIAL = re.compile(r"[@*#?0-9]")
_TRIMMED = re.compile(r"(##?|%%?)(.{1,80})", re.DOTALL)
_REPLACED = re.compile(r"(//?)([^*?\[/]{1,80})(?:/([^/]{0,80}))?")
ASSIGNED = re.compile(r"([A-Za-z_]\w*)(\+?)=")
_IN_BRACES = re.compile(r"([A-Za-z_]\w*|[0-9@*#?])(\[[@*]\])?(:?[-=+?])?(.*)", re.DOTALL)
_LIST_ALONE = re.compile(r'"\$(?:\{\w+\[@\]\}|\{@\}|@)"')
_ARITHMETIC = re.compile(r"[0-9+\-*/%() \t]{1,80}")
_DEEP, _LARGE, _MOST_FILES = 20, 10**12, 50
_LONGEST_TRIMMED = 500
"""Characters that are tried at an end of a value."""
UNKNOWN_OUTPUT = "$(...)"
"""Stands for the output of a command."""
OPEN_QUOTE = "the arguments cannot be split into words: unclosed quote"


def left_open(name: str) -> str:
    """A placeholder as a word."""
    shown = re.sub(r"[^A-Z0-9]+", "-", name.upper()).strip("-")
    return f"<{shown}>" if re.fullmatch(r"[A-Z].+", shown) else "<VALUE>"


class Token(NamedTuple):
    """An operator, or the words that a word of the text expands to. line: of its start, from 1."""

    operator: str
    words: tuple[str, ...]
    line: int
    quoted: bool = False


class Lexer:
    """A shell text, word by word. Variables may change between words.

    defaults: whether `${A:-b}` is b if A is unset; unknown for a line without its environment.
    files: what here-documents write, by path.
    """

    def __init__(self, text: str, values: dict[str, Value], *, defaults: bool, depth: int = 0) -> None:
        self.text = text
        self.at = 0
        self.values = values
        self.defaults = defaults
        self.files: dict[str, str] = {}
        self._depth = depth
        self._here: list[tuple[str, bool]] = []
        self._written = ""

    def token(self) -> Token | None:
        """The next operator or word; None at the end. Redirections and comments are skipped."""
        while True:
            self._blanks()
            line = self.text.count("\n", 0, self.at) + 1
            if self.at >= len(self.text):
                return None
            left = _LEFT.match(self.text, self.at)
            if left is not None:
                self.at = left.end()
                return Token("", (left_open(left[1]),), line)
            redirection = _REDIRECTION.match(self.text, self.at)
            if redirection is not None:
                self._redirection(redirection)
                continue
            operator = _OPERATOR.match(self.text, self.at)
            if operator is not None:
                self.at = operator.end()
                if operator[0] == "\n":
                    self._here_documents()
                return Token(operator[0], (), line)
            start = self.at
            words = self.word()
            return Token("", tuple(words), line, self.text[start] in "'\"")

    def assignment(self) -> tuple[str, str, Value] | None:
        """An assignment `A=b`, `A+=b` or `A=(b c)` here, if any: name, operator and value."""
        self._blanks()
        match = ASSIGNED.match(self.text, self.at)
        if match is None:
            return None
        self.at = match.end()
        if self.text[self.at : self.at + 1] == "(":
            self.at += 1
            return match[1], match[2], self._array()
        return match[1], match[2], " ".join(self.word())

    def _array(self) -> tuple[str, ...]:
        found: list[str] = []
        while (token := self.token()) is not None and token.operator != ")":
            found.extend(token.words)
        return tuple(found)

    def _blanks(self) -> None:
        while self.at < len(self.text):
            if self.text[self.at] in BLANK:
                self.at += 1
            elif self.text.startswith(("\\\n", "\\\r\n"), self.at):
                self.at = self.text.index("\n", self.at) + 1
            elif self.text[self.at] == "#" and (self.at == 0 or self.text[self.at - 1] in " \t\r\n;|&()"):
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            else:
                return

    def _redirection(self, match: re.Match[str]) -> None:
        self.at = match.end()
        self._blanks()
        quoted = self.text[self.at : self.at + 1] in ("'", '"', "\\")
        target = self.word() if self.at < len(self.text) and self.text[self.at] not in "\n;|()" else []
        if (match[1] or "").rstrip("-") == "<<":
            self._here.append((" ".join(target), quoted))
        elif (match[1] or match[0]) == ">":
            self._written = " ".join(target)

    def _here_documents(self) -> None:
        """Skips here-documents, keeping those written into a file."""
        for delimiter, quoted in self._here:
            start = last = self.at
            while self.at < len(self.text):
                last = self.at
                end = self.text.find("\n", self.at)
                end = len(self.text) if end < 0 else end
                line, self.at = self.text[self.at : end].strip(), end + 1
                if line == delimiter:
                    break
            if self._written and len(self.files) < _MOST_FILES:
                content = self.text[start:last]
                self.files[self._written] = content if quoted or "$" not in content else self._filled(content)
        self._here, self._written = [], ""

    def _filled(self, content: str) -> str:
        """A here-document with its variables expanded; unknown ones stay as names."""
        quoted = '"' + content.replace('"', '\\"') + '"'
        try:
            return " ".join(Lexer(quoted, self.values, defaults=self.defaults, depth=self._depth + 1).word())
        except InvalidValueError:
            return content

    def word(self) -> list[str]:
        """The words that the one here expands to: none, one, or several."""
        done: list[str] = []
        current: list[str] | None = None
        while self.at < len(self.text) and self.text[self.at] not in ENDS_WORD:
            char = self.text[self.at]
            if char == "\\":
                piece = self.text[self.at + 1 : self.at + 2]
                self.at += 2
                current = [*(current or []), "" if piece == "\n" else piece]
            elif self.text.startswith(("'", "$'"), self.at):
                self.at += int(char == "$")
                current = [*(current or []), self._until("'")]
            elif char == '"':
                for number, piece in enumerate(self._in_quotes()):
                    if number:
                        done.append("".join(current or []))
                        current = None
                    current = [*(current or []), piece]
            elif char in "$`":
                value = self._expansion()
                fields = tuple((value if isinstance(value, str) else " ".join(value)).split())
                if fields and isinstance(value, str) and value[:1].isspace() and current is not None:
                    done.append("".join(current))
                    current = None
                for number, field in enumerate(fields):
                    if number:
                        done.append("".join(current or []))
                        current = None
                    current = [*(current or []), field]
            else:
                self.at += 1
                current = [*(current or []), char]
        return done if current is None else [*done, "".join(current)]

    def _until(self, end: str) -> str:
        close = self.text.find(end, self.at + 1)
        if close < 0:
            raise InvalidValueError(OPEN_QUOTE, field="args", help="close the quotes")
        text, self.at = self.text[self.at + 1 : close], close + 1
        return text

    def _in_quotes(self) -> list[str]:
        """Contents of double quotes; several words for an expanded list, none for an empty one."""
        pieces = [""]
        start = self.at
        self.at += 1
        is_empty_list = False
        while self.at < len(self.text) and self.text[self.at] != '"':
            char = self.text[self.at]
            if char == "\\" and self.text[self.at + 1 : self.at + 2] in ("$", "`", '"', "\\", "\n"):
                pieces[-1] += self.text[self.at + 1].replace("\n", "")
                self.at += 2
            elif char in "$`":
                value = self._expansion()
                fields = value if isinstance(value, tuple) else (value,)
                is_empty_list = not fields
                pieces[-1] += "".join(fields[:1])
                pieces.extend(fields[1:])
            else:
                pieces[-1] += char
                self.at += 1
        if self.at >= len(self.text):
            raise InvalidValueError(OPEN_QUOTE, field="args", help="close the quotes")
        self.at += 1
        return [] if is_empty_list and _LIST_ALONE.fullmatch(self.text[start : self.at]) else pieces

    def _expansion(self) -> Value:
        """The expansion that starts here with a dollar or a backquote, and its value."""
        if self.text[self.at] == "`":
            self._until("`")
            return UNKNOWN_OUTPUT
        rest = self.text[self.at : self.at + 3]
        if rest.startswith("$(("):
            return self._arithmetic()
        if rest.startswith("$("):
            inner = self._closed("(", ")")
            may_be_variable = _NAME.fullmatch(inner) and (inner in self.values or not inner.islower())
            return self._looked_up(inner, f"$({inner})") if may_be_variable else UNKNOWN_OUTPUT
        if rest.startswith("${"):
            return self._braces(self._closed("{", "}"))
        match = _NAME.match(self.text, self.at + 1) or _SPECIAL.match(self.text, self.at + 1)
        self.at += 1 + (len(match[0]) if match else 0)
        if match and match[0] == "@" and "@" in self.values:
            return self.values["@"]
        return self._looked_up(match[0], f"${{{match[0]}}}") if match else "$"

    def _closed(self, opening: str, closing: str) -> str:
        """The text in the brackets that open here; moves past them."""
        start, depth = self.at + 2, 1
        self.at = start
        while self.at < len(self.text) and depth:
            depth += {opening: 1, closing: -1}.get(self.text[self.at], 0)
            self.at += 1
        if depth:
            raise InvalidValueError(
                f"the arguments cannot be split into words: unclosed {opening}",
                field="args",
                help=f"close it: {closing}",
            )
        return self.text[start : self.at - 1]

    def _looked_up(self, name: str, otherwise: str) -> Value:
        value = self.values.get(name)
        return otherwise if value is None else value if isinstance(value, str) else " ".join(value)

    def _braces(self, inner: str) -> Value:
        match = _IN_BRACES.fullmatch(inner)
        if match is None:
            return f"${{{inner}}}" if re.fullmatch(r"[\w.]{1,80}", inner) else UNKNOWN_OUTPUT
        name, index, operator, word = match.groups()
        value = self.values.get(name)
        if isinstance(value, tuple) and (index == "[@]" or inner == "@"):
            return value
        known = None if value is None else value if isinstance(value, str) else " ".join(value)
        if operator is not None:
            return self._defaulted(name, known, operator, word)
        if known is not None and word and not index:
            known = _changed(known, word)
        elif word:
            known = None
        return known if known is not None else f"${{{inner if word.startswith('.') else name}}}"

    def _defaulted(self, name: str, known: str | None, operator: str, word: str) -> str:
        """`${A:-b}` and similar: its value, or the name if unknown."""
        is_set = known is not None and (known != "" or not operator.startswith(":"))
        if operator.endswith("+"):
            return self._inner(word) if is_set else "" if self.defaults else f"${{{name}}}"
        if is_set and known is not None:
            return known
        if operator.endswith("?") or not self.defaults:
            return f"${{{name}}}"
        default = self._inner(word)
        if operator.endswith("="):
            self.values[name] = default
        return default

    def _inner(self, text: str) -> str:
        """A default, which may contain variables."""
        if self._depth >= _DEEP:
            return UNKNOWN_OUTPUT
        lexer = Lexer(
            f'"{text}"' if not re.search(r"['\"]", text) else text,
            self.values,
            defaults=self.defaults,
            depth=self._depth + 1,
        )
        return " ".join(lexer.word())

    def _arithmetic(self) -> str:
        inner = self._closed("(", ")").removeprefix("(").removesuffix(")")
        text = _NAME.sub(lambda match: str(self._looked_up(match[0], "?")), inner.replace("$", ""))
        text = text.replace("{", "").replace("}", "")
        return computed(text)


def _changed(value: str, how: str) -> str | None:
    """`${A#prefix}`, `${A%suffix}` and `${A/b/c}`; None for what else may be done to a value."""
    if match := _TRIMMED.fullmatch(how):
        from fnmatch import fnmatchcase

        lengths = range(min(len(value), _LONGEST_TRIMMED) + 1)
        ordered = reversed(lengths) if len(match[1]) > 1 else lengths
        if match[1][0] == "#":
            return next((value[n:] for n in ordered if fnmatchcase(value[:n], match[2])), value)
        return next((value[: len(value) - n] for n in ordered if fnmatchcase(value[len(value) - n :], match[2])), value)
    if match := _REPLACED.fullmatch(how):
        return value.replace(match[2], match[3] or "", -1 if len(match[1]) > 1 else 1)
    return None


def computed(text: str) -> str:
    """Value of integer arithmetic such as $((1024 * 32)); unknown for anything else."""
    if not _ARITHMETIC.fullmatch(text) or "**" in text:
        return UNKNOWN_OUTPUT
    from ast import BinOp, Constant, Div, Mod, Mult, Sub, UnaryOp, parse
    from ast import expr as Expression  # noqa: N812  # a class

    def value(node: Expression) -> int:
        match node:
            case Constant(value=int() as number):
                return number
            case UnaryOp(operand=operand):
                return -value(operand)
            case BinOp(left=left, op=operator, right=right):
                one, other = value(left), value(right)
                if isinstance(operator, Mult):
                    return one * other
                if isinstance(operator, Div | Mod):
                    quotient = abs(one) // abs(other) * (1 if (one < 0) == (other < 0) else -1)
                    return quotient if isinstance(operator, Div) else one - quotient * other
                return one - other if isinstance(operator, Sub) else one + other
        raise ValueError(text)

    try:
        number = value(parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return UNKNOWN_OUTPUT
    return str(number) if abs(number) <= _LARGE else UNKNOWN_OUTPUT
