"""What pip is told, uv is told."""

from __future__ import annotations

import pytest

from include.cli.pip_settings import has_cpu_torch, parse_listing, uv_environment

LISTING = """:env:.cert='/etc/ssl/ca.pem'
:env:.find-links='/srv/wheels https://example.org/wheels'
global.extra-index-url='https://a.example/simple\\nhttps://b.example/simple'
global.find-links='/ignored'
global.index-url='https://c.example/simple'
install.trusted-host='a.example'
freeze.exclude='x'
nonsense
"""


def test_the_environment_wins_over_the_configuration_files():
    settings = parse_listing(LISTING)
    assert settings["find-links"] == "/srv/wheels https://example.org/wheels"
    assert settings["trusted-host"] == "a.example"
    assert "exclude" not in settings


def test_indexes_and_find_links_are_carried_over():
    env = uv_environment(parse_listing(LISTING), {})
    assert env["UV_FIND_LINKS"] == "/srv/wheels,https://example.org/wheels"
    assert env["UV_INDEX_URL"] == "https://c.example/simple"
    assert env["UV_EXTRA_INDEX_URL"] == "https://a.example/simple https://b.example/simple"
    assert env["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert env["UV_INSECURE_HOST"] == "a.example"
    assert env["SSL_CERT_FILE"] == "/etc/ssl/ca.pem"


def test_without_settings_uv_is_left_alone():
    assert uv_environment(parse_listing(""), {}) == {}


def test_what_uv_was_told_directly_stays():
    env = uv_environment(parse_listing(LISTING), {"UV_FIND_LINKS": "/mine", "UV_INDEX": "x"})
    assert "UV_FIND_LINKS" not in env
    assert "UV_EXTRA_INDEX_URL" not in env


@pytest.mark.parametrize(
    ("wheel", "found"),
    [
        ("torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl", True),
        ("torch-2.12.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl", False),
        ("torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl", False),
    ],
)
def test_a_local_cpu_build_of_torch_is_recognised(tmp_path, wheel, found):
    (tmp_path / wheel).touch()
    assert has_cpu_torch(f"/nowhere,{tmp_path}", "2.13.0") is found
    assert has_cpu_torch(tmp_path.as_uri(), "2.13.0") is found
