"""The page: shells that hold nothing, and the fragments that htmx puts into them.

Fragments are made of the answers of the JSON API, and need the same token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

import numpy as np
import orjson
import polars as pl
from fastapi import APIRouter
from pydantic import ConfigDict, Field, Json
from starlette.requests import Request
from starlette.responses import Response

from nmtr.serving.bundle import Bundle
from nmtr.serving.http.asked import (
    MOST_EVENTS,
    Asked,
    ExplainQuery,
    Id,
    ReportQuery,
    VisitedIn,
    WhoIn,
)  # fmt: skip
from nmtr.serving.http.engine import Question, attributes
from nmtr.serving.http.envelope import SHELLS
from nmtr.serving.http.openapi import Direct
from nmtr.serving.http.problems import Problem
from nmtr.serving.http.problems import explained as explained_error
from nmtr.serving.http.routes.common import in_form, in_query, runtime
from nmtr.serving.http.routes.items import explained
from nmtr.serving.http.routes.operations import cards
from nmtr.serving.http.routes.people import history
from nmtr.serving.http.routes.recommendations import expect_known, listed
from nmtr.serving.http.routes.report import compared
from nmtr.serving.http.runtime import Runtime
from nmtr.serving.page.figures import estimates, health, tables
from nmtr.serving.page.numbers import moment
from nmtr.serving.page.rendering import POLICY, VIEWS, files, render
from nmtr.serving.page.things import funnel, picks, thing
from nmtr.serving.requests import Event, Slice

router = APIRouter(route_class=Direct, include_in_schema=False)
LISTED = 10  # items of a list
LIKE = 8  # users that are suggested
EXAMPLES = 5
REASONS = 2  # of one item
FOREVER = "public, max-age=31536000, immutable"  # the address changes with the contents
Name = Annotated[str, Field(max_length=64)]


class LikeForm(Asked):
    model_config = ConfigDict(strict=False)

    user: Annotated[str, Field(max_length=256)] = ""


class UserForm(Asked):
    """Whom an operator looks at; arm: by name, or none for the one that is dealt."""

    model_config = ConfigDict(strict=False)

    user: Id
    arm: Name = ""
    slice: Slice = "all"


class Visit(Asked):
    """What somebody who is not known did so far, and did now; back: how much of it is kept."""

    model_config = ConfigDict(strict=False)

    events: Json[list[VisitedIn]] = Field(default=[], max_length=MOST_EVENTS)
    did: Json[VisitedIn] | None = None
    keep: int | None = Field(None, ge=0)
    arm: Name = ""

    def all(self) -> list[VisitedIn]:
        found = [*self.events, *([self.did] if self.did else [])]
        return found[: MOST_EVENTS if self.keep is None else self.keep]


class ReasonForm(ExplainQuery):
    events: Json[list[VisitedIn]] = Field(default=[], max_length=MOST_EVENTS)
    arm: Name = ""


@router.get("/static/{name}")
async def static(request: Request) -> Response:
    found = files().get(request.path_params["name"])
    if found is None:
        raise Problem(404, "there is no such file")
    headers = {"Cache-Control": FOREVER}
    return Response(found.content, headers=headers, media_type=found.kind)


async def shell(request: Request) -> Response:
    """A view without its contents: anybody may have it."""
    name, title = VIEWS[request.url.path]
    guarded = bool(runtime(request).tokens)
    return _html("shell", view=name, title=title, path=request.url.path, guarded=guarded)


for _path in SHELLS:
    router.add_api_route(_path, shell, methods=["GET"], name=f"page {_path}")


@router.get("/page/users")
async def users(request: Request) -> Response:
    home = runtime(request)
    bundle = home.arms.arms[0].bundle
    examples = await home.run(lambda: _examples(bundle))
    return _html("users", examples=examples, arms=_names(home), total=bundle.data.n_users)


@router.post("/page/like")
async def like(request: Request) -> Response:
    """Users of the bundle whose id begins with what was typed."""
    asked, home = await in_form(LikeForm, request), runtime(request)
    ids = home.arms.arms[0].bundle.data.users.ids

    def work() -> list[str]:
        text = ids.cast(pl.String)
        return text.filter(text.str.starts_with(asked.user)).head(LIKE).to_list()

    return _html("like", users=await home.run(work) if asked.user else [])


@router.post("/page/user")
async def user(request: Request) -> Response:
    asked, home = await in_form(UserForm, request), runtime(request)
    person = WhoIn(user=asked.user).person()
    question = _look(home, Question(person, LISTED, asked.slice, arm=asked.arm))
    did = await history(home, question)
    arm = home.arms.named(did["arm"])
    done = {
        name: [thing(each, attributes(arm, each)) for each in ids]
        for name, ids in did["behaviors"].items()
    }
    shown = await _list(home, question)
    return _html(
        "user", user=asked.user, known=did["known"], arm=arm.name, columns=funnel(done), **shown,
        asked={"user": asked.user, "arm": asked.arm}, behaviors=[], slice=asked.slice,
    )  # fmt: skip


@router.post("/page/visit")
async def visit(request: Request) -> Response:
    asked, home = await in_form(Visit, request), runtime(request)
    done = asked.all()
    events = _events(home, done)
    name = asked.arm or home.arms.arms[0].name
    shown = await _list(home, _look(home, Question(None, LISTED, events=events, arm=name)))
    arm = home.arms.named(name)
    trail = [(each.behavior, thing(each.item, attributes(arm, each.item))) for each in done]
    text = orjson.dumps([{"item": each.item, "behavior": each.behavior} for each in done]).decode()
    return _html(
        "visit", trail=trail, events=text, arm=name, arms=_names(home), **shown,
        behaviors=arm.service.behaviors, asked={"events": text, "arm": name},
    )  # fmt: skip


@router.post("/page/reason")
async def reason(request: Request) -> Response:
    asked, home = await in_form(ReasonForm, request), runtime(request)
    events = _events(home, asked.events)
    question = _look(home, Question(asked.person(), 1, events=events, arm=asked.arm))
    found = await explained(home, question, asked.item, REASONS)
    reasons = [
        (thing(each["item"], each["attributes"]), each["behaviors"], each["drop"])
        for each in found["reasons"]
    ]
    return _html("reason", item=found["item"], basis=found["basis"], reasons=reasons)


@router.get("/page/model")
async def model(request: Request) -> Response:
    found = await cards(runtime(request))
    reports = {each["name"]: list(tables(each["reports"])) for each in found["arms"]}
    return _html("model", **found, tables=reports)


@router.get("/page/experiment")
async def experiment(request: Request) -> Response:
    asked, home = in_query(ReportQuery, request), runtime(request)
    found = await compared(home, asked)
    marks = {name: estimates(found["arms"], name) for name in ("conversion", "per_list")}
    return _html("experiment", report=found, marks=marks, behaviors=home.arms.behaviors)


@router.get("/page/health")
async def state(request: Request) -> Response:
    home = runtime(request)
    error = home.follower.error
    trouble = explained_error(error).detail if error else ""
    figures = health(home.metrics.registry)
    loaded = moment(datetime.fromtimestamp(figures.loaded, UTC).isoformat())
    now = f"{datetime.now(UTC):%H:%M:%S} UTC"
    values = {"trouble": trouble, "arms": home.arms.arms, "loaded": loaded, "now": now}
    return _html("health", figures=figures, **values)


def _html(name: str, **values: Any) -> Response:
    headers = {"Content-Security-Policy": POLICY}
    return Response(render(name, **values), headers=headers, media_type="text/html")


def _look(home: Runtime, question: Question) -> Question:
    """A question of an operator's; UsageError where it names no arm that is there."""
    if question.arm:
        home.arms.named(question.arm)
    return replace(question, attributes=True, looking=True)


def _examples(bundle: Bundle) -> list[str]:
    """Some users who did everything at least once, any of them as likely."""
    data = bundle.data
    counts = np.stack([each.lengths() for each in data.sets])
    found = np.flatnonzero(counts.all(0))
    chosen = found[np.argsort(np.asarray(data.user_hash)[found])[:EXAMPLES]]
    return [str(each) for each in data.users.take(chosen)]


def _names(home: Runtime) -> list[str]:
    return [each.name for each in home.arms.arms]


async def _list(home: Runtime, question: Question) -> Mapping[str, Any]:
    """A list as the templates show it."""
    answer = orjson.loads(await listed(home, question))
    chosen, scale = picks(answer)
    return {"answer": answer, "picks": chosen, "scale": scale}


def _events(home: Runtime, given: list[VisitedIn]) -> tuple[Event, ...]:
    events = tuple(each.event(home.live.undo) for each in given)
    expect_known(home, events)
    return events
