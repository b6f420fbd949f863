"""English text: its words, sentences and syllables. Every search here takes time linear in the text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

_STOP_WORDS = """
a about above after again against all also am an and any are aren't as at be because been before being below between
both but by can can't cannot could couldn't did didn't do does doesn't doing don't down during each either else ever
every few for from further get gets got had hadn't has hasn't have haven't having he he'd he'll he's her here here's
hers herself him himself his how however i i'd i'll i'm i've if in into is isn't it it'd it'll it's its itself just
let's like may me might more most much must my myself neither no nor not of off on once one only onto or other our
ours ourselves out over own per said same shall she she'd she'll she's should shouldn't since so some such than that
that's the their theirs them themselves then there there's these they they'd they'll they're they've this those
through to too two under until up upon us very was wasn't we we'd we'll we're we've were weren't what what's when
where whether which while who whom whose why will with within without won't would wouldn't yet you you'd you'll
you're you've your yours yourself yourselves
"""

STOP_WORDS = frozenset(_STOP_WORDS.split())

_ABBREVIATIONS = "al approx cf col dept dr e.g fig figs gen gov i.e jr lt mr mrs ms prof rev sgt sr st viz vs"

ABBREVIATIONS = frozenset(_ABBREVIATIONS.split())
"""What a full stop may follow without ending the sentence."""

LONGEST_TERM = 64
"""Characters; a longer word is not one, and is told apart by its beginning only."""

_WORD = re.compile(r"[^\W_]++(?:['-][^\W_]++)*+")
# The look-behind makes a run of marks be tried at its first one only; without it a long run takes quadratic time.
_SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'\u2019\u201d)\]]*+(?=\s|\Z)")
_LAST_TOKEN = re.compile(r"[^\s(\[\"\u201c]*\Z")
_PARAGRAPH_BREAK = re.compile(r"\n\s*\n")
_VOWELS = re.compile(r"[aeiouy]+")


def words_in(text: str) -> list[str]:
    """The words of a text, in lower case, with straight apostrophes; numbers count as words."""
    return _WORD.findall(text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").lower())


def term_of(word: str) -> str | None:
    """The term a word of `words_in` stands for; None for a stop word, a number or a single letter."""
    if word in STOP_WORDS:
        return None
    term = word[:LONGEST_TERM].removesuffix("'s")
    return term if len(term) > 1 and term not in STOP_WORDS and any(map(str.isalpha, term)) else None


def sentence_ends(text: str) -> Iterator[int]:
    """Where in the text sentences end: after their full stop, question or exclamation mark and what closes after it."""
    for end in _SENTENCE_END.finditer(text):
        if not _is_abbreviated(text, end):
            yield end.end()


def sentences_in(text: str) -> list[str]:
    """The sentences of a text, white space evened out; a blank line ends one too."""
    sentences = []
    for paragraph in _PARAGRAPH_BREAK.split(text):
        start = 0
        for end in (*sentence_ends(paragraph), len(paragraph)):
            sentences.append(" ".join(paragraph[start:end].split()))
            start = end
    return [sentence for sentence in sentences if words_in(sentence)]


@lru_cache(maxsize=65_536)
def syllables_in(word: str) -> int:
    """An estimate, at least 1: groups of vowels, without the silent `e` at the end."""
    if not word.isascii():
        word = unicodedata.normalize("NFD", word)
    groups = len(_VOWELS.findall(word))
    if word.endswith("e") and not word.endswith(("le", "ee", "ye")):
        groups -= 1
    return max(1, groups)


def _is_abbreviated(text: str, end: re.Match[str]) -> bool:
    if end.group() != ".":
        return False
    token = _LAST_TOKEN.search(text[max(0, end.start() - 12) : end.start()])
    word = token.group() if token else ""
    is_initial = len(word) == 1 and word.isupper() and word != "I"
    return is_initial or word.lower() in ABBREVIATIONS
