"""JSON as clients and handlers may write it, for Hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=20)
OBJECTS = st.dictionaries(TEXTS, JSON, max_size=5)
