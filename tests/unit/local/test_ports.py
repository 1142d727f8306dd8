import socket

import pytest

from deploy.local.errors import LocalError
from deploy.local.ports import Ports, free_ports, require_free


def test_the_defaults_lie_below_the_ports_of_outgoing_connections() -> None:
    assert Ports() == Ports(15432, 16379, 19092, 19200)
    assert max(free_ports(20)) < 32_768


def test_the_environment_moves_a_port() -> None:
    assert Ports.from_environment({"SLUICE_REDIS_PORT": "7777", "SLUICE_KAFKA_PORT": ""}) == Ports(redis=7777)


@pytest.mark.parametrize("text", ["0", "65536", "-1", "8000x", "٣"])
def test_a_port_that_is_none_is_refused_by_its_variable_s_name(text: str) -> None:
    with pytest.raises(LocalError, match="SLUICE_POSTGRES_PORT"):
        Ports.from_environment({"SLUICE_POSTGRES_PORT": text})


def test_a_busy_port_is_named_with_the_variable_that_moves_it() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        with pytest.raises(LocalError, match=f"Port {busy.getsockname()[1]} for kafka .* SLUICE_KAFKA_PORT"):
            require_free({"kafka": busy.getsockname()[1]})


def test_two_components_can_t_have_one_port() -> None:
    (port,) = free_ports(1)

    with pytest.raises(LocalError, match="both want port"):
        require_free({"redis": port, "metrics of worker-store": port})


def test_free_ports_are_different() -> None:
    assert len(set(free_ports(50))) == 50
