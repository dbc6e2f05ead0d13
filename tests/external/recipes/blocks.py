"""The recipes on a page of the documentation: its fenced blocks, each with a comment in the line above."""

import re

# `<!-- recipe: NAME -->` or `<!-- not tried -->`, then the block.
BLOCK = re.compile(r"^(?P<mark>[^\n]*)\n```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
RECIPE = re.compile(r"<!-- recipe: ([\w-]+) -->")


def recipes(page):
    """Returns the text of each recipe by its name. A block without a mark, and a name that occurs twice, end the program."""
    found = {}
    for block in BLOCK.finditer(page):
        mark, text = block["mark"].strip(), block["text"]
        name = RECIPE.fullmatch(mark)
        if mark == "<!-- not tried -->":
            continue
        if not name:
            raise SystemExit(f"a block is neither a recipe nor marked as not tried:\n{text}")
        if name[1] in found:
            raise SystemExit(f"two recipes have the name {name[1]}")
        found[name[1]] = text
    return found


def replaced(text, *changes):
    """Returns the text with each OLD replaced by NEW; one that does not occur ends the program, since the recipe is then another."""
    for old, new in changes:
        if old not in text:
            raise SystemExit(f"the recipe has no {old!r} any more:\n{text}")
        text = text.replace(old, new)
    return text
