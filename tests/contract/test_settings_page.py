"""docs/settings.md and `execution settings` say what the code does, and show no secret."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from execution.cli.setting_list import list_settings, settings_page, settings_there_are
from execution.settings import Settings, variable_of

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
SECRETS = {
    *("EXECUTION_DATABASE_URL", "EXECUTION_API_KEY", "EXECUTION_KAFKA_COMMANDS_SECRET"),
    *("EXECUTION_KAFKA_PASSWORD", "EXECUTION_KAFKA_OAUTH_CLIENT_SECRET", "EXECUTION_KAFKA_TLS_KEY_PASSWORD"),
    "EXECUTION_STEPS_HTTP_CREDENTIALS",
}
SECRET = "correct-horse-battery-staple-for-all-of-them"


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == settings_page(list(settings_there_are())), "run: make contract"


def test_every_setting_is_listed_once_and_in_a_section() -> None:
    settings = list(settings_there_are())
    assert Counter(one.variable for one in settings) == Counter(map(variable_of, Settings.model_fields))
    sections = [one.section for one in settings]
    assert all(sections)
    assert sections == sorted(sections, key=sections.index), "a section is in one piece"


async def test_what_is_set_is_shown_even_if_it_is_wrong_and_secrets_are_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in SECRETS:
        monkeypatch.setenv(variable, SECRET)
    monkeypatch.setenv("EXECUTION_PORT", "none of your business")
    shown = []
    for as_json in (False, True):
        await list_settings(markdown=False, as_json=as_json)
        shown.append(capsys.readouterr().out)
    assert all("none of your business" in text and SECRET not in text for text in shown)
    values = {one["variable"]: one["value"] for one in json.loads(shown[1])["items"]}
    assert {variable for variable, value in values.items() if value == "(a secret)"} == SECRETS
    assert values["EXECUTION_HOST"] is None


def test_meanings_name_variables_and_no_fields() -> None:
    meanings = {one.variable: one.meaning for one in settings_there_are()}
    assert "`EXECUTION_DATA_DIR`" in meanings["EXECUTION_DATABASE_URL"]
    assert not [name for name in Settings.model_fields for meaning in meanings.values() if f"`{name}`" in meaning]
