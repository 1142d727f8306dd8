from __future__ import annotations

import secrets
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from app.webhooks.signing import SecretUnreadableError, headers, new_secret, seal, unseal

BODY = '{"type":"events.replayed","data":{"text":"häuser 修"}}'.encode()


def test_the_specifications_own_library_verifies_a_message_and_notices_any_change() -> None:
    secret = new_secret()
    sent = headers(secret, "msg_1", int(time.time()), BODY)
    receiver = Webhook(secret)
    assert receiver.verify(BODY, sent)["type"] == "events.replayed"
    changed = ({**sent, "webhook-id": "msg_2"}, {**sent, "webhook-timestamp": str(int(time.time()) - 1)})
    for told in changed:
        with pytest.raises(WebhookVerificationError):
            receiver.verify(BODY, told)
    with pytest.raises(WebhookVerificationError):
        receiver.verify(BODY.replace(b"replayed", b"forged__"), sent)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, sent)


def test_the_example_of_the_specification_comes_out() -> None:
    # From the reference implementations' own tests.
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    sent = headers(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert sent["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_sealed_secret_opens_with_the_same_key_for_the_same_thing_only() -> None:
    key, secret = secrets.token_bytes(32), new_secret()
    sealed = seal(key, secret, "replay 1")
    assert secret.encode() not in sealed
    assert sealed != seal(key, secret, "replay 1")
    assert unseal(key, sealed, "replay 1") == secret
    for other in ((secrets.token_bytes(32), sealed, "replay 1"), (key, sealed, "replay 2"), (key, b"", "replay 1")):
        with pytest.raises(SecretUnreadableError):
            unseal(*other)
    with pytest.raises(SecretUnreadableError):
        unseal(key, sealed[:-1] + bytes([sealed[-1] ^ 1]), "replay 1")
