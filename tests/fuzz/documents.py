"""Mutations of JSON documents, and of the documents that lie as text inside other documents."""

from __future__ import annotations

import copy
import json
import re
import zlib
from random import Random
from typing import Any

from fuzz import values
from fuzz.values import Pairs, Raw

SEAL = re.compile(rb'(\{"checksum": ")[^"]*",')
DEEPEST = 200  # a document that an earlier mutation has nested further is not taken apart again


def mutate_json(random: Random, data: bytes) -> bytes:
    """Change one place of a document; bytes that are no document get a document."""
    tree = parse(data)
    new = values.value(random) if tree is None else changed(random, tree)
    return _sealed(dump(new).encode("utf-8", "surrogatepass"))


def mutate_json_lines(random: Random, data: bytes) -> bytes:
    """Change, repeat, remove or move one line of a file of documents."""
    lines = data.splitlines(keepends=True)
    if not lines:
        return b"{}\n"
    at = random.randrange(len(lines))
    step = random.randrange(5)
    if step == 0:
        lines.insert(at, lines[at])
    elif step == 1:
        del lines[at]
    elif step == 2:
        lines.insert(random.randrange(len(lines)), lines.pop(at))
    else:
        lines[at] = mutate_json(random, lines[at]) + b"\n"
    return b"".join(lines)


def _sealed(document: bytes) -> bytes:
    """Give a document of a store the checksum that fits, so that what it says is read."""
    match = SEAL.match(document)
    if match is None:
        return document
    rest = document[match.end() :]
    return match[1] + b"%08x" % zlib.crc32(rest) + b'",' + rest


def parse(data: bytes) -> Any:
    """Return the tree of a document, its objects as `Pairs`; None if it is invalid or deep."""
    if data.count(b"[") + data.count(b"{") > DEEPEST and b"[[[[" in data:
        return None
    try:
        return json.loads(data, object_pairs_hook=Pairs)
    except (ValueError, RecursionError):
        return None


def dump(tree: Any) -> str:
    """Return the text of a tree."""
    if isinstance(tree, Raw):
        return str(tree)
    if isinstance(tree, Pairs):
        return "{" + ",".join(f"{dump(key)}: {dump(item)}" for key, item in tree) + "}"
    if isinstance(tree, dict):
        return dump(Pairs(tree.items()))
    if isinstance(tree, list):
        return "[" + ",".join(dump(item) for item in tree) + "]"
    if isinstance(tree, int) and not isinstance(tree, bool):
        return hex_free(tree)
    return json.dumps(tree)


def hex_free(number: int) -> str:
    """Return the digits of an integer of any size; Python refuses to print very long ones."""
    sign, digits = ("-", -number) if number < 0 else ("", number)
    return sign + (str(digits) if digits < 10**400 else "1" + "0" * 400)


def changed(random: Random, tree: Any) -> Any:
    """Return a copy of a tree with one change at a random node."""
    tree = [copy.deepcopy(tree)]  # so that the root has a parent, too
    parent, at = random.choice(list(_places(tree)))
    inner = parse(parent[at].encode("utf-8", "surrogatepass")) if _looks_like_json(parent[at]) else None
    if inner is not None and random.random() < 0.8:
        parent[at] = dump(changed(random, inner))
        return tree[0]
    node = parent[at]
    step = random.randrange(10)
    if isinstance(node, Pairs) and node and step < 6:
        _change_members(random, node)
    elif isinstance(node, list) and not isinstance(node, Pairs) and node and step < 4:
        _change_items(random, node)
    elif isinstance(node, int | float) and not isinstance(node, bool) and step < 4:
        parent[at] = random.choice(
            (node + 1, node - 1, -node, 2 * node, str(node), [node], values.number(random))
        )
    else:
        parent[at] = values.value(random)
    return tree[0]


def _places(tree: list[Any]) -> Any:
    """Yield each node as a list that holds it and an index; members of objects are lists of two."""
    stack = [tree]
    while stack:
        node = stack.pop()
        for i, item in enumerate(node):
            if isinstance(item, tuple):  # a member, which must be a list to be changed in place
                item = node[i] = list(item)
                yield item, 1
                if isinstance(item[1], list):
                    stack.append(item[1])
            else:
                if not isinstance(node, Pairs):
                    yield node, i
                if isinstance(item, list):
                    stack.append(item)


def _change_members(random: Random, members: Pairs) -> None:
    at = random.randrange(len(members))
    key, item = members[at]
    step = random.randrange(6)
    if step == 0:
        del members[at]
    elif step == 1:
        members.append((key, values.value(random)))  # the key twice
    elif step == 2:
        members[at] = (values.name(random), item)
    elif step == 3:
        members[at] = (key + values.name(random), item)
    elif step == 4:
        other = random.randrange(len(members))
        members[at], members[other] = (key, members[other][1]), (members[other][0], item)
    else:
        members.append((values.name(random), values.value(random)))


def _change_items(random: Random, items: list[Any]) -> None:
    at = random.randrange(len(items))
    step = random.randrange(4)
    if step == 0:
        del items[at]
    elif step == 1:
        items.append(items[at])
    elif step == 2:
        items.insert(at, values.value(random))
    else:
        items[:] = items * random.choice((2, 1_000))


def _looks_like_json(node: Any) -> bool:
    return isinstance(node, str) and not isinstance(node, Raw) and node[:1] in ("{", "[")
