"""The peer of servers.py: CTranslate2 behind FastAPI and uvicorn (uvloop, httptools), with dynamic batching.

    python loadtest/servers_fastapi.py --model target/ct2-teacher --port 8081

As short as such a server can be without being slow. As soon as a worker of CTranslate2 is free, everything that waits,
up to --batch texts, becomes its next batch, so an idle server does not wait for more. Texts are encoded and decoded in the
worker's thread. A text whose `deadline_ms` would pass if its batch took as long as the longest of the last eight is
refused with 503 when the batch begins, so at overload no time goes into answers that come too late.
"""

import argparse
import asyncio
import collections
import contextlib
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from export_ct2 import Peer
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel


class Body(BaseModel):
    q: str
    source: str
    target: str
    format: str = "text"
    deadline_ms: int = 30_000


class Batches:
    def __init__(self, peer, workers, most, beam):
        self.peer, self.workers, self.most, self.beam = peer, workers, most, beam
        self.pool = ThreadPoolExecutor(workers)
        self.waiting = asyncio.Queue()
        self.took = collections.deque([0.0], maxlen=8)  # seconds of the last batches

    async def worker(self):
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self.waiting.get()]
            while len(batch) < self.most and not self.waiting.empty():
                batch.append(self.waiting.get_nowait())
            begun = time.monotonic()
            for _, until, answer in batch:
                if until < begun + max(self.took) and not answer.done():
                    answer.set_exception(HTTPException(503, "overloaded"))
            batch = [item for item in batch if not item[2].done()]
            if not batch:
                self.took.append(0.0)  # one long batch must not refuse everything for ever
                continue
            texts = await loop.run_in_executor(self.pool, self.translate, [text for text, _, _ in batch])
            self.took.append(time.monotonic() - begun)
            for (_, _, answer), text in zip(batch, texts):
                if answer.done():
                    continue
                if isinstance(text, Exception):
                    answer.set_exception(text)
                else:
                    answer.set_result(text)

    def translate(self, texts):
        try:
            return [self.peer.text(future) for future in self.peer.submit(texts, self.beam)]
        except Exception as error:
            print("translating failed: %s" % error, file=sys.stderr, flush=True)
            return [HTTPException(500, "translating failed") for _ in texts]

    def ask(self, text, until):
        answer = asyncio.get_running_loop().create_future()
        self.waiting.put_nowait((text, until, answer))
        return answer


def application(batches):
    @contextlib.asynccontextmanager
    async def lifespan(_):
        tasks = [asyncio.create_task(batches.worker()) for _ in range(batches.workers)]
        yield
        for task in tasks:
            task.cancel()

    app = FastAPI(lifespan=lifespan)

    @app.post("/translate")
    async def translate(body: Body):
        return {"translatedText": await batches.ask(body.q, time.monotonic() + body.deadline_ms / 1e3)}

    @app.get("/health")
    async def health():
        return {"status": "ok"}

    return app


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--model", required=True, help="folder that export_ct2.py wrote")
    p.add_argument("--port", type=int, required=True)
    p.add_argument("--threads", type=int, default=1, help="of each worker of CTranslate2 [default: 1]")
    p.add_argument("--workers", type=int, default=1, help="of CTranslate2 [default: 1]")
    p.add_argument("--batch", type=int, default=64, help="texts of a batch, at most [default: 64]")
    p.add_argument("--beam", type=int, default=1)
    args = p.parse_args()
    batches = Batches(Peer(args.model, "int8", args.threads, args.workers), args.workers, args.batch, args.beam)
    uvicorn.run(application(batches), host="127.0.0.1", port=args.port, loop="uvloop", http="httptools",
                log_level="warning", access_log=False, timeout_keep_alive=75)


if __name__ == "__main__":
    main()
