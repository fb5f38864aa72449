"""What is in stock: only that is recommended, where a list was given."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from nmtr.serving.http.answered import StockOut
from nmtr.serving.http.asked import StockChangeIn, StockIn
from nmtr.serving.http.openapi import Direct, answers, body
from nmtr.serving.http.routes.common import answer, in_body, runtime
from nmtr.serving.http.runtime import Runtime

router = APIRouter(route_class=Direct, tags=["stock"])
DONE = answers(
    StockOut, 400, 408, 413, 415, 422,
    example={"version": 3, "listed": 2, "known": {"control": 2}},
)  # fmt: skip


@router.get("/v1/stock", summary="How much is in stock", responses=DONE)
async def get(request: Request) -> Response:
    return await _changed(runtime(request), lambda: None)


@router.put(
    "/v1/stock", summary="Give the whole stock list", responses=DONE,
    openapi_extra=body([StockIn], {"a list": {"items": ["sku-1", "sku-2"]}}),
)  # fmt: skip
async def put(request: Request) -> Response:
    """Recommend nothing else from the next answer on; with null, everything again."""
    asked, home = await in_body(StockIn, request), runtime(request)
    if asked.items is None:
        return await _changed(home, home.store.drop_stock)
    items = asked.items
    return await _changed(home, lambda: home.store.replace_stock(items))


@router.patch(
    "/v1/stock", summary="Change the stock list", responses=DONE,
    openapi_extra=body([StockChangeIn], {"a change": {"add": ["sku-3"], "remove": ["sku-1"]}}),
)  # fmt: skip
async def patch(request: Request) -> Response:
    """Add and remove items; one that is in both is in stock. Needs a list that is there."""
    asked, home = await in_body(StockChangeIn, request), runtime(request)
    return await _changed(home, lambda: home.store.patch_stock(add=asked.add, remove=asked.remove))


async def _changed(home: Runtime, change: Callable[[], object]) -> Response:
    def work() -> dict[str, object]:
        change()
        stock = home.store.stock()
        known = home.restock(stock)
        listed = None if stock.items is None else len(stock.items)
        return {"version": stock.version, "listed": listed, "known": known}

    return answer(await home.run(work))
