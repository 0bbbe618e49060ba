"""Settings: a file, the environment, the command line; and a clear refusal of what cannot be meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.config import Settings, described, environment_of_children, key_of_environment, load
from gateway.errors import SettingsRefused


def loaded(text: str, tmp_path: Path, **environment: str) -> Settings:
    path = tmp_path / "understudy.toml"
    path.write_text(text)
    return load(path, environment=environment)


def test_an_empty_file_runs(tmp_path: Path) -> None:
    assert loaded("", tmp_path) == Settings() == load(environment={})
    assert Settings().folder == Path("understudy-data")


def test_every_setting_says_what_it_means_and_its_default_holds() -> None:
    settings = list(described())
    assert len({setting.key for setting in settings}) == len(settings) > 25
    document: dict[str, Any] = msgspec.to_builtins(Settings())
    for setting in settings:
        assert setting.description
        assert setting.type in {"str", "int", "float", "bool"} or " or " in setting.type
        value: Any = document
        for key in setting.key.split("."):
            value = value[key]
        assert value == setting.default
        assert load(overrides={setting.key: setting.default}, environment={}) == Settings()


def test_every_setting_can_be_set_by_the_environment() -> None:
    for setting in described():
        name = "UNDERSTUDY__" + setting.key.upper().replace(".", "__")
        assert load(environment={name: str(setting.default)}) == Settings()
    assert load(environment={"UNDERSTUDY__SERVER__PORT": "9000"}).server.port == 9_000
    assert load(environment={"UNDERSTUDY__LOGS__REQUESTS": "true"}).logs.requests
    assert load(environment={"UNDERSTUDY_SERVER__PORT": "9000", "PATH": "/bin"}) == Settings()


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "understudy.toml"
    path.write_text("store = 'a'\n[server]\nport = 1\nworkers = 2\nmax_rows = 3\n")
    environment = {"UNDERSTUDY__SERVER__PORT": "11", "UNDERSTUDY__SERVER__WORKERS": "12"}
    read = load(path, {"server.port": 21, "server.max_rows": None, "store": None}, environment)
    assert (read.server.port, read.server.workers, read.server.max_rows, read.store) == (21, 12, 3, "a")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("prot = 1", "unknown field `prot`"),
        ("[server]\nprot = 1", r"unknown field `prot` - at `\$.server`"),
        ("[severs]\nport = 1", "unknown field `severs`"),
        ("[server]\nport = 'many'", r"Expected `int`, got `str` - at `\$.server.port`"),
        ("[server]\nport = true", r"Expected `int`, got `bool` - at `\$.server.port`"),
        ("[server]\nport = 65536", r"<= 65535 - at `\$.server.port`"),
        ("[server]\nport = [1]", r"got `array` - at `\$.server.port`"),
        ("[server]\nworkers = 0", r">= 1 - at `\$.server.workers`"),
        ("server = 5", r"Expected `object`, got `int` - at `\$.server`"),
        ("[shadow]\npoll_s = nan", r"> 0.0 - at `\$.shadow.poll_s`"),
        ("[journal]\ndurability = 'never'", r"'never' - at `\$.journal.durability`"),
        ("[journal]\ndurability =", "not TOML"),
        ("[server]\nport = 1\nport = 2", "not TOML"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_named(text: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsRefused, match=named):
        loaded(text, tmp_path)


def test_a_section_that_the_file_gives_as_a_value_is_refused_and_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsRefused, match="server: expected a section, got 5"):
        loaded("server = 5", tmp_path, UNDERSTUDY__SERVER__PORT="1")
    with pytest.raises(SettingsRefused, match="server: expected a section, got 'yes'"):
        loaded("", tmp_path, UNDERSTUDY__SERVER="yes", UNDERSTUDY__SERVER__PORT="1")


def test_an_unknown_key_of_the_environment_is_refused_and_named() -> None:
    with pytest.raises(SettingsRefused, match="unknown field `prot`"):
        load(environment={"UNDERSTUDY__SERVER__PROT": "1"})
    with pytest.raises(SettingsRefused, match=r"Expected `int`, got `str` - at `\$.server.port`"):
        load(environment={"UNDERSTUDY__SERVER__PORT": "many"})


def test_a_file_that_cannot_be_read_is_refused_and_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsRefused, match=r"nowhere.toml: no such file"):
        load(tmp_path / "nowhere.toml", environment={})
    with pytest.raises(SettingsRefused, match="is a directory"):
        load(tmp_path, environment={})
    (tmp_path / "latin.toml").write_bytes("store = 'süß'".encode("latin-1"))
    with pytest.raises(SettingsRefused, match=r"latin.toml: not TOML"):
        load(tmp_path / "latin.toml", environment={})


def test_a_store_that_is_a_url_is_refused_when_a_folder_is_needed() -> None:
    with pytest.raises(SettingsRefused, match=r"store: expected a folder, got 'postgresql://there'"):
        _ = Settings(store="postgresql://there").folder


def test_a_key_in_the_environment_is_no_setting() -> None:
    assert load(environment={"UNDERSTUDY_KEY": "us_a_b"}) == Settings()
    assert key_of_environment({"UNDERSTUDY_KEY": " us_a_b\n"}) == "us_a_b"
    assert key_of_environment({"UNDERSTUDY_KEY": " "}) is None
    assert key_of_environment({}) is None


def test_children_get_the_environment_without_the_settings_and_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSTUDY__SERVER__PORT", "1")
    monkeypatch.setenv("ELSE", "kept")
    monkeypatch.setenv("UNDERSTUDY_KEY", "us_secret")
    given = environment_of_children()
    assert given["ELSE"] == "kept"
    assert "UNDERSTUDY_KEY" not in given
    assert "UNDERSTUDY__SERVER__PORT" not in given
    assert load().server.port == 1
