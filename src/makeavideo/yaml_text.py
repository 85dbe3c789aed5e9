"""YAML that people write or send: no key twice, of bounded size when its aliases are followed, one kind of error."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MOST = 200_000
"""Keys and values: each alias counts as all that it stands for, or a few lines would be billions of them."""


class NotYaml(ValueError):
    """The text is no YAML that is read here; the message says why, without a full stop."""


def parse_yaml(text: str) -> Any:
    """What the text says, in plain types; NotYaml where it says nothing clear."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _size(node, {}) > MOST:
                raise NotYaml("it is too large, with what its aliases stand for")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" near line {mark.line + 1}" if mark else ""
        if isinstance(error, _Twice):
            raise NotYaml(f"it has the key {error.problem} twice,{where}") from None
        raise NotYaml(f"it is not valid YAML{where}") from None
    except RecursionError:
        raise NotYaml("it is nested too deep") from None
    except NotYaml:
        raise
    except ValueError as error:  # of a date that does not exist, a number of thousands of digits
        raise NotYaml(f"it has a value that cannot be: {str(error)[:80]}") from None


class _Twice(yaml.constructor.ConstructorError):
    pass


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, ScalarNode):
                if (key.tag, key.value) in seen:
                    raise _Twice(None, None, key.value[:80], key.start_mark)
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def _size(node: Node, known: dict[int, int]) -> int:
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = MOST + 1  # of one that holds itself
    inside: list[Node] = []
    if isinstance(node, MappingNode):
        inside = [one for pair in node.value for one in pair]
    elif isinstance(node, SequenceNode):
        inside = node.value
    known[id(node)] = 1 + sum(_size(one, known) for one in inside)
    return known[id(node)]
