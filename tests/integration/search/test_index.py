"""The template, and writing: what Elasticsearch takes, refuses and can't take now."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.local.ports import free_ports
from search import execute, verify
from search.bulk import REQUEST_BYTES, bulk_write
from search.client import IndexUnavailable, make_client
from search.mapping import ensure_template
from search.scope import scoped
from tests.integration.search.conftest import UNSHRUNK, Index, row


async def test_the_template_can_be_put_again_and_gives_slices_their_alias(own_index: Index) -> None:
    await ensure_template(own_index.client, own_index.prefix)
    outcome = await own_index.write([row(uuid4()), row(uuid4(), received_at=datetime(2025, 4, 1, tzinfo=UTC))])
    assert outcome.written == 2
    slices = await own_index.client.indices.get_alias(name=own_index.prefix)
    assert sorted(slices) == [f"{own_index.prefix}-202503", f"{own_index.prefix}-202504"]


async def test_prefixes_that_begin_alike_do_not_claim_each_others_slices(own_index: Index) -> None:
    longer = Index(own_index.client, f"{own_index.prefix}-b")
    await ensure_template(longer.client, longer.prefix)
    await longer.write([row(uuid4())])
    assert list(await own_index.client.indices.get_alias(name=longer.prefix)) == [f"{longer.prefix}-202503"]
    assert not await own_index.client.indices.exists_alias(name=own_index.prefix)
    await longer.remove()


async def test_ten_thousand_metadata_keys_add_no_field(own_index: Index) -> None:
    rows = [row(uuid4(), {f"key{n}_{m}": m for m in range(100)}) for n in range(100)]
    await own_index.write(rows[:1])
    before = await own_index.client.indices.get_mapping(index=f"{own_index.prefix}-202503")
    assert (await own_index.write(rows)).written == 100
    assert (await own_index.client.indices.get_mapping(index=f"{own_index.prefix}-202503")).body == before.body


async def test_an_event_written_again_is_there_once(index: Index) -> None:
    tenant_id = uuid4()
    rows = [row(tenant_id, event_id="é" * 200 + str(n % 5)) for n in range(10)]
    assert (await index.write(rows)).written == 10
    assert (await index.write(rows)).written == 10
    assert await verify.tenant_total(index.client, index.prefix, tenant_id) == 5


async def test_the_same_event_id_of_two_tenants_is_two_events(index: Index) -> None:
    one, other = uuid4(), uuid4()
    await index.write([row(one, event_id="same"), row(other, event_id="same")])
    assert await verify.tenant_total(index.client, index.prefix, one) == 1
    assert await verify.tenant_total(index.client, index.prefix, other) == 1


async def test_what_can_never_be_written_is_refused_with_its_reason_and_the_rest_is_written(index: Index) -> None:
    tenant_id = uuid4()
    bad = row(tenant_id, timestamp=datetime(2300, 1, 1, tzinfo=UTC))
    outcome = await index.write([row(tenant_id), bad, row(tenant_id)])
    assert (outcome.written, outcome.retriable) == (2, [])
    ((refused, reason),) = outcome.refused
    assert refused is bad
    assert "document_parsing_exception" in reason
    assert "2262" in reason


async def test_a_slice_that_takes_no_writes_now_makes_its_rows_retriable(own_index: Index) -> None:
    await own_index.write([row(uuid4())])
    blocked, open_ = row(uuid4()), row(uuid4(), received_at=datetime(2025, 4, 1, tzinfo=UTC))
    name = f"{own_index.prefix}-202503"
    await own_index.client.indices.add_block(index=name, block="write")
    outcome = await own_index.write([blocked, open_])
    assert (outcome.written, outcome.retriable, outcome.refused) == (1, [blocked], [])
    await own_index.client.indices.put_settings(index=name, settings={"index.blocks.write": False})
    assert (await own_index.write(outcome.retriable)).written == 1


async def test_rows_beyond_the_size_of_one_request_go_in_several(index: Index) -> None:
    tenant_id = uuid4()
    rows = [row(tenant_id, {"s": "lorem ipsum " * 4000}) for _ in range(50)]
    assert sum(len(each["metadata"]) for each in rows) > 2 * REQUEST_BYTES
    assert (await index.write(rows)).written == 50
    assert await verify.tenant_total(index.client, index.prefix, tenant_id) == 50


async def test_no_rows_are_no_request(index: Index) -> None:
    assert (await bulk_write(index.client, index.prefix, [])).written == 0


async def test_a_server_that_is_not_there_is_said_so() -> None:
    (port,) = free_ports(1)
    async with make_client(f"http://127.0.0.1:{port}", timeout=2) as client:
        with pytest.raises(IndexUnavailable):
            await bulk_write(client, "p", [row(uuid4())])
        with pytest.raises(IndexUnavailable):
            await ensure_template(client, "p")


async def test_a_server_that_never_answers_is_given_up_in_time() -> None:
    held: list[asyncio.StreamWriter] = []

    async def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    silent = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    try:
        async with make_client(f"http://127.0.0.1:{port}", timeout=0.2) as client:
            with pytest.raises(IndexUnavailable, match="Timeout"):
                await asyncio.wait_for(bulk_write(client, "p", [row(uuid4())]), 5)
            with pytest.raises(IndexUnavailable, match="Timeout"):
                await asyncio.wait_for(ensure_template(client, "p"), 5)
    finally:
        for writer in held:
            writer.close()
        silent.close()
        await silent.wait_closed()


EXTREMES: list[Any] = [
    {"a" * 60_000: "x"},
    {"a" * 20_000: {"b" * 20_000: {"c": ["x", 1]}}},
    {"blob": "f" * 60_000},
    {"text": "件" * 20_000},
    {"emoji": "👩‍💻" * 4000},
    {"n": 10**399, "m": -(10**399)},
    '{"n": 0.' + "1" * 400 + ', "e": ' + "9" * 350 + ".5}",
    {"": "", " ": " ", ".": {"..": "a."}, "a.b": 1, "a": {"b": 2}},
    {"many": list(range(9000))},
    {f"k{n}": n for n in range(5000)},
    {"tenant_id": "x", "_id": "y", "_routing": "z", "text": ["a"]},
    json.loads('{"d":' * 15 + '"deep"' + "}" * 15),
    json.loads('{"l":' + "[" * 15 + '"deep"' + "]" * 15 + "}"),
    {"control": "".join(map(chr, range(1, 32)))},
]


@pytest.mark.parametrize("metadata", EXTREMES, ids=range(len(EXTREMES)))
async def test_whatever_metadata_can_be_stored_can_be_indexed_and_comes_back(index: Index, metadata: Any) -> None:
    text = metadata if isinstance(metadata, str) else json.dumps(metadata, ensure_ascii=False)
    tenant_id = await index.holding(text)
    answer = await index.answer(tenant_id)
    assert [hit["metadata"] for hit in answer["hits"]] == [json.loads(text)]


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_an_event_whose_numbers_were_written_out_to_megabytes_is_indexed(index: Index) -> None:
    digits = "1" + "0" * 399
    tenant_id = await index.holding(f'{{"n": [{", ".join([digits] * 9000)}]}}')
    answer = await index.answer(tenant_id)
    assert answer["hits"][0]["metadata"]["n"][-1] == int(digits)


characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(characters),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(characters), inner, max_size=4),
    max_leaves=12,
)


@settings(phases=UNSHRUNK, max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.dictionaries(st.text(characters), values, max_size=5), min_size=1, max_size=40))
async def test_any_metadata_is_written(index: Index, many: list[dict[str, Any]]) -> None:
    tenant_id = uuid4()
    outcome = await index.write([row(tenant_id, each) for each in many])
    assert (outcome.written, outcome.retriable, outcome.refused) == (len(many), [], [])


async def test_metadata_is_answered_digit_for_digit(index: Index) -> None:
    text = '{"a": 0.1234567890123456789, "b": 1.0, "c": 123456789012345678901234567890, "d": 100.00}'
    tenant_id = await index.holding(text)
    answer = await execute.search(index.client, index.prefix, scoped(tenant_id, size=1))
    assert bytes(answer.hits.hits[0].source.metadata) == text.encode()
