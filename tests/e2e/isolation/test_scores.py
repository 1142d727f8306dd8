"""The order and the scores of one tenant's hits tell nothing of what others store in the same shard."""

from __future__ import annotations

import secrets
from typing import Any

import httpx
import pytest

from tests.system import System, until

SEARCH = "/api/v1/events/search"
OTHERS = 200


@pytest.mark.parametrize("quoted", [False, True])
async def test_a_score_does_not_tell_how_often_other_tenants_have_the_word(system: System, quoted: bool) -> None:
    word, rare = f"w{secrets.token_hex(6)}", f"w{secrets.token_hex(6)}"
    async with system.client(await system.tenant()) as mine, system.client(await system.tenant()) as other:
        texts = (word, rare, f"{word} {rare} {rare} and more")
        await send(mine, *texts)
        questions = [f'"{text}"' if quoted else text for text in (word, rare, f"{word} {rare}")]
        await found(mine, questions[0], 2)
        before = [await hits(mine, question) for question in questions]
        assert all(hit["score"] > 0 for of_question in before for hit in of_question)

        await send(other, *[word] * OTHERS)
        await found(other, word, OTHERS)
        assert [await hits(mine, question) for question in questions] == before


async def send(client: httpx.AsyncClient, *texts: str) -> None:
    events = [{"event_type": "said", "metadata": {"text": text}} for text in texts]
    assert (await client.post("/api/v1/events/batch", json=events)).status_code == 202


async def found(client: httpx.AsyncClient, question: str, total: int) -> None:
    async def look() -> Any:
        return (await client.get(SEARCH, params={"q": question})).json()["total"]

    await until(look, lambda seen: seen == total)


async def hits(client: httpx.AsyncClient, question: str) -> list[dict[str, Any]]:
    answer = await client.get(SEARCH, params={"q": question, "sort": "relevance"})
    found: list[dict[str, Any]] = answer.json()["hits"]
    return found
