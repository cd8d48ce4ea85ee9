"""Settings from the environment."""

import logging

from matyan_client.config import Settings


def test_defaults(monkeypatch):
    for name in ("BACKEND_URL", "FRONTIER_URL", "QUIET"):
        monkeypatch.delenv(f"MATYAN_{name}", raising=False)
    settings = Settings()
    assert settings.backend_url == "http://localhost:53800"
    assert settings.frontier_url == "http://localhost:53801"
    assert settings.quiet is False
    assert settings.ws_batch_size == 100


def test_variables_are_read(monkeypatch):
    monkeypatch.setenv("MATYAN_BACKEND_URL", "http://tracker:1/")
    monkeypatch.setenv("MATYAN_QUIET", "1")
    monkeypatch.setenv("MATYAN_WS_RETRY_COUNT", "7")
    settings = Settings()
    assert settings.backend_url == "http://tracker:1"
    assert settings.quiet is True
    assert settings.ws_retry_count == 7


def test_a_wrong_value_is_reported_and_replaced_by_the_default(monkeypatch, caplog):
    monkeypatch.setenv("MATYAN_WS_BATCH_SIZE", "many")
    monkeypatch.setenv("MATYAN_QUIET", "perhaps")
    with caplog.at_level(logging.WARNING, "matyan_client"):
        settings = Settings()
    assert settings.ws_batch_size == 100
    assert settings.quiet is False
    assert [record.getMessage() for record in caplog.records] == [
        "MATYAN_QUIET='perhaps' is not a boolean; using the default False",
        "MATYAN_WS_BATCH_SIZE='many' is not an integer; using the default 100",
    ]


def test_arguments_take_precedence(monkeypatch):
    monkeypatch.setenv("MATYAN_BACKEND_URL", "http://environment")
    assert Settings(backend_url="http://argument").backend_url == "http://argument"
