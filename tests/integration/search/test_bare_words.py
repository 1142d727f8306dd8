"""Bare words match by stem; Chinese, Japanese and Korean by what is written; identifiers by part."""

from __future__ import annotations

import pytest

from tests.integration.search.conftest import Index

TEXTS = [
    "Fixing the broken buttons",
    "The button was fixed by Anna's team",
    "修复组件错误",
    "错误的组成部件",
    "サーバーが落ちた",
    "오류가 발생했습니다",
    "Café déjà vu",
    "user.name@example.com opened https://example.com/pay?id=7",
    "E_CONN_504: connection refused",
    "第3步完成",
    "antd组件库 v4.2",
    "ＦＵＬＬ width",
]


@pytest.fixture(scope="session")
async def tenant(index: Index) -> object:
    return await index.holding(*({"s": text} for text in TEXTS))


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("fix", {0, 1}),
        ("FIXED buttons", {0, 1}),
        ("fix broken", {0}),
        ("the", {0, 1}),
        ("anna", {1}),
        ("组件", {2, 10}),
        ("错误", {2, 3}),
        ("错误 组件", {2}),
        ("组", {2, 3, 10}),
        ("件组", set()),
        ("サーバー", {4}),
        ("バー", {4}),
        ("오류", {5}),
        ("cafe", {6}),
        ("CAFÉ deja", {6}),
        ("example", {7}),
        ("example.com", {7}),
        ("user.name@example.com", {7}),
        ("name", {7}),
        ("https://example.com/pay", {7}),
        ("com.example", set()),
        ("504", {8}),
        ("E_CONN_504", {8}),
        ("conn", {8}),
        ("connected", {8}),
        ("第3步", {9}),
        ("antd组件", {10}),
        ("v4.2", {10}),
        ("full", {11}),
        ("nothing", set()),
        ("fix -", {0, 1}),
        ('fix "broken buttons"', {0}),
        ('"Fixing" 组件', set()),
    ],
)
async def test_bare_words(index: Index, tenant: object, q: str, found: set[int]) -> None:
    assert await index.found(tenant, q) == found  # type: ignore[arg-type]


async def test_the_very_word_ranks_above_others_of_its_stem(index: Index) -> None:
    tenant_id = await index.holding({"s": "connect now"}, {"s": "connected now"}, {"s": "connection now"})
    answer = await index.answer(tenant_id, q="connected")
    assert answer["hits"][0]["event_id"] == "1"
    assert answer["total"] == 3


async def test_matches_are_shown_in_html(index: Index) -> None:
    tenant_id = await index.holding({"s": "<b>fixed</b> 修复组件错误"})
    answer = await index.answer(tenant_id, q='fix "组件"')
    assert answer["hits"][0]["highlights"] == ["&lt;b&gt;fixed&lt;&#x2F;b&gt; 修复<em>组件</em>错误"]
    answer = await index.answer(tenant_id, q="fix")
    assert answer["hits"][0]["highlights"] == ["&lt;b&gt;<em>fixed</em>&lt;&#x2F;b&gt; 修复组件错误"]
