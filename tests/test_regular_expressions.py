"""No text makes a regular expression of the package quadratic: twice the length costs about twice the time.

The expressions are found in the source, with the methods that they are used with: a new one is covered by itself.
"""

import ast
import importlib
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from itertools import chain, product
from pathlib import Path
from typing import Any

import pytest

import signalcraft

MAX_LENGTH = 65_536
#: Up to here a time is noise, and no text of a request is too slow.
NOISE_SECONDS = 0.1
METHODS = ("findall", "finditer", "fullmatch", "match", "search", "split", "sub")
#: Every expression is tried with texts of these, besides what is literal in it.
CHARACTERS = ("a", "0", "_", " ", "\n", ".", "-", ":", "/", "@", "=", "&", '"', "\\", "[", "<", "{", "\x1b")


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Each module's name and syntax tree; of a package, those of all modules below it."""
    for found in pkgutil.walk_packages(signalcraft.__path__, "signalcraft."):
        spec = found.module_finder.find_spec(found.name, None)
        assert spec
        assert spec.origin
        yield found.name, ast.parse(Path(spec.origin).read_text())


def calls(tree: ast.Module) -> Iterator[tuple[str, str, ast.Call]]:
    """Calls of a method of a name: the name, the method, the call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
            yield name, node.func.attr, node


def used() -> Iterator[tuple[str, "re.Pattern[Any]", str]]:
    """Where each expression is, the expression, and a method that it is used with."""
    trees = dict(sources())
    methods = {(name, method) for tree in trees.values() for name, method, _ in calls(tree) if method in METHODS}
    for module, tree in trees.items():
        for _, method, call in (found for found in calls(tree) if found[0] == "re" and found[1] in METHODS):
            yield f"{module}:{call.lineno}", re.compile(ast.literal_eval(call.args[0])), method
        if any(name == "re" and method == "compile" for name, method, _ in calls(tree)):
            for name, value in vars(importlib.import_module(module)).items():
                if isinstance(value, re.Pattern):
                    own = [method for method in METHODS if (name, method) in methods]
                    handed_on = [method for owner, method, _ in calls(tree) if owner == "pattern" and method in METHODS]
                    yield from ((f"{module}.{name}", value, method) for method in own or handed_on or ["search"])


EXPRESSIONS = {f"{where}.{method}": (pattern, method) for where, pattern, method in used()}


def literals(pattern: str) -> set[str]:
    """Runs of characters that stand for themselves, as far as they can be told without parsing."""
    plain = pattern.replace(r"\r", "\r").replace(r"\n", "\n")
    plain = re.sub(r"\(\?(<?[=!]|:|P<\w+>|P=\w+)|\[[^\]]*\]|\{[^}]*\}|\\[a-zA-Z0]", "\0", plain).replace("\\", "")
    return {run for run in re.split(r"[\0()*+?|^$]+", plain) if run}


def texts(pattern: str) -> Iterator[Callable[[int], str]]:
    """Makers of texts of a length: one piece or two again and again, perhaps with another beginning or end."""
    known = sorted(literals(pattern))
    pieces = sorted({*CHARACTERS, *known})
    pairs = (one + other for one, other in product(known, CHARACTERS))
    ends = [("", ""), *((one, "") for one in known), *(("", one) for one in known)]
    for piece, (begin, end) in chain(product(pieces, ends), product(pairs, ends[:1])):
        yield lambda length, piece=piece, begin=begin, end=end: begin + piece * (length // len(piece)) + end  # type: ignore[misc]


def seconds(pattern: "re.Pattern[Any]", method: str, text: str) -> float:
    subject = text.encode() if isinstance(pattern.pattern, bytes) else text
    call = getattr(pattern, method)
    began = time.thread_time()  # other work of the machine does not count
    result = call(subject[:0], subject) if method == "sub" else call(subject)
    if method == "finditer":
        list(result)
    return time.thread_time() - began


def grows_faster_than_its_text(pattern: "re.Pattern[Any]", method: str, text: Callable[[int], str]) -> bool:
    """Whether a text twice as long takes more than 2.5 times as long: of three tries each, the fastest."""
    for length in (2_048, 8_192, MAX_LENGTH):  # in steps, to notice what is slow before it takes minutes
        if seconds(pattern, method, text(length)) > NOISE_SECONDS:
            times = [min(seconds(pattern, method, text(n)) for _ in range(3)) for n in (length // 2, length)]
            if times[1] > max(NOISE_SECONDS, 2.5 * times[0]):
                return True
    return False


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_twice_the_text_takes_at_most_two_and_a_half_times_as_long(where: str) -> None:
    pattern, method = EXPRESSIONS[where]
    source = pattern.pattern.decode("latin-1") if isinstance(pattern.pattern, bytes) else pattern.pattern
    if pattern.flags & re.VERBOSE:  # its comments and layout match nothing
        source = re.sub(r"\s+#.*|\s+", "", source)
    slow = [text(40) for text in texts(source) if grows_faster_than_its_text(pattern, method, text)]
    assert slow == []


def test_the_expressions_of_the_whole_package_are_found() -> None:
    assert len(EXPRESSIONS) > 35
    for known in ("signalcraft.logs._SECRET_TEXT.sub", "signalcraft.web.server.request_buffer._LENGTH.search"):
        assert known in EXPRESSIONS


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"(?<=://)[^/@\s]*:[^/@\s]*(?=@)", "sub"),
        (r"\[[^\]]+\]", "findall"),
    ],
)
def test_an_expression_that_backtracks_is_noticed(pattern: str, method: str) -> None:
    """All of them were ours."""
    compiled = re.compile(pattern)
    assert any(grows_faster_than_its_text(compiled, method, text) for text in texts(pattern))
