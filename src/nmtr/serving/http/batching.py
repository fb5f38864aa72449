"""Requests that wait together are scored together: under load, by what load there is."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from nmtr.serving.http.problems import Overloaded

Q = TypeVar("Q")
A = TypeVar("A")
TOGETHER = 32


class _Waiting(NamedTuple, Generic[Q, A]):
    question: Q
    future: asyncio.Future[A]
    loop: asyncio.AbstractEventLoop


class Batcher(Generic[Q, A]):
    """Threads that answer questions of coroutines, as many at once as have gathered meanwhile.

    Nobody is kept waiting for others: a thread that is free takes what is there.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Q]], Sequence[A | Exception]],
        *,
        threads: int,
        waiting: int,
    ) -> None:
        """work: answers each question, or says why not; waiting: more than so many are refused."""
        self._work, self._limit = work, waiting
        self._queue: deque[_Waiting[Q, A]] = deque()
        self._news = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"nmtr-score-{n}", daemon=True)
            for n in range(threads)
        ]
        for each in self._threads:
            each.start()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    async def ask(self, question: Q) -> A:
        """The answer; raises Overloaded where too many wait."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[A] = loop.create_future()
        with self._news:
            if self._closed:
                raise Overloaded("the service is stopping")
            if len(self._queue) >= self._limit:
                raise Overloaded(f"{self._limit} requests wait for an answer")
            self._queue.append(_Waiting(question, future, loop))
            self._news.notify()
        return await future

    def close(self) -> None:
        """Answer what waits, then end the threads."""
        with self._news:
            self._closed = True
            self._news.notify_all()
        for each in self._threads:
            each.join()

    def _run(self) -> None:
        while batch := self._next():
            live = [each for each in batch if not each.future.done()]  # some have given up
            try:
                answers = self._work([each.question for each in live]) if live else []
            except Exception as error:
                answers = [error] * len(live)
            for loop in {each.loop for each in live}:
                mine = [
                    (each.future, answer)
                    for each, answer in zip(live, answers, strict=True)
                    if each.loop is loop
                ]
                loop.call_soon_threadsafe(_deliver, mine)

    def _next(self) -> list[_Waiting[Q, A]]:
        """What waits, up to TOGETHER; nothing when the batcher is closed and all is answered."""
        with self._news:
            self._news.wait_for(lambda: self._queue or self._closed)
            return [self._queue.popleft() for _ in range(min(len(self._queue), TOGETHER))]


def _deliver(answers: Sequence[tuple[asyncio.Future[A], A | Exception]]) -> None:
    for future, answer in answers:
        if future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
