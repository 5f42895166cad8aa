"""Mask what varies between two occurrences of one problem: ids, numbers, addresses, times, quoted values.

Two promises hold for any text. Masking a masked text changes nothing: no digit is left, and what is masked without a
digit never begins or ends next to a mask, nor holds one. The time is linear in the length: each alternative begins at
a boundary and can be read in one way only.
"""

import re

MASK = "#"

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}+"
_IPV6_GROUPS = r"[0-9a-f]{1,4}(?::[0-9a-f]{1,4}){0,6}"

#: What varies, the longest form first. A group whose name begins with ``keep`` stays in front of the mask.
_VARYING = re.compile(
    rf"""
    (?<![\w#]) (?P<quote>['"`]) [^'"`]* (?P=quote) (?![\w#])
    | (?P<keep_query> \? ) (?=[^\s=?\#'"`]+ =) [^\s'"`]*                          # a URL's, up to its end
    | (?<![\w.+\#-]) [\w.+-]++ @ [\w-]++ (?:\.[\w-]++)+                            # an e-mail address
    | (?<![\w#]) [0-9a-f]{{8}} (?:-[0-9a-f]{{4,12}}){{1,4}} (?![\w#])              # a UUID, or the beginning of one
    | (?<![\w#]) (?:[a-f]{{8}} | [a-f]{{12,}}+) (?![\w#])                          # hex of letters alone
    | (?<![\w:\#]) (?=[a-f:]{{0,39}}[0-9])                                         # an IPv6 address
      (?: (?:[0-9a-f]{{1,4}}:){{7}} [0-9a-f]{{1,4}} | (?:{_IPV6_GROUPS})? :: (?:{_IPV6_GROUPS})? ) (?![\w:\#])
    | (?<![\w#]) [0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}                                  # a date, ISO 8601
      (?: [t ][0-9]{{2}}:[0-9]{{2}} (?: :[0-9]{{2}} (?:[.,][0-9]{{1,9}})? )? (?: z | [+-][0-9]{{2}}:?[0-9]{{2}} )? )?
      (?![\w#])
    | (?: (?<![\w#]) (?:mon|tue|wed|thu|fri|sat|sun)[a-z]{{0,6}}+,?\s )?           # a date in words
      (?<![\w#]) (?: [0-9]{{1,2}}[ -]{_MONTH} | {_MONTH}[ ][0-9]{{1,2}},? ) [ -][0-9]{{4}} (?![\w#])
    | (?<![\w#]) [0-9]++ (?:[.,:][0-9]++)* (?![\w#])                               # numbers, times, IPv4, line:column
    | (?P<keep_token> (?<![^\W_]) [^\W\d_]*+ ) \d [^\W_]*+                         # letters and digits mixed
    """,
    re.IGNORECASE | re.VERBOSE,
)
_DIGITS = re.compile(r"\d+")
_LETTERS = re.compile(r"[^\W\d_]+")
# Letters as in identifiers: lower case, camel case, capitals.
_WORD = re.compile(r"(?:[A-Z]{0,4}[a-z]{2,}+)+|[A-Z]{3,}")
# Not so a word with a number behind it: decade2024.
_HEX = re.compile(r"0x[0-9a-f]+|(?![a-f]{1,10}[0-9]{1,4}$)[0-9a-f]{8,}", re.IGNORECASE)
_ID_LENGTH = 8
_ID_RUNS = 4


def mask(text: str) -> str:
    """Return ``text`` with ``#`` instead of all that varies."""
    return _VARYING.sub(_masked, text)


def _masked(match: re.Match[str]) -> str:
    found = match[0]
    if match["quote"]:
        return f"{match['quote']}{MASK}{match['quote']}"
    if match["keep_query"]:
        return f"?{MASK}"
    if match["keep_token"] is None or _is_id(found):
        return MASK
    return _DIGITS.sub(MASK, found)


def _is_id(token: str) -> bool:
    """Return whether letters and digits are mixed as at random: ``4g8hXn02``, but not ``sha256`` or ``base64url``."""
    if _HEX.fullmatch(token):
        return True
    letters = _LETTERS.findall(token)
    odd = sum(_WORD.fullmatch(run) is None for run in letters)
    return len(token) >= _ID_LENGTH and (odd > 1 or len(letters) > _ID_RUNS)
