"""The client of servers.py: open loop over HTTP/1.1 with connections that are kept, in one thread.

A request leaves when its time has come, however many wait; if no connection is free, a new one is opened. The latency
of an answer counts from the time when the request was due, so neither a slow server nor a slow client is flattered. The
client sleeps until shortly before a request is due and then polls, because a timer of the system is late by up to a
millisecond. What it is late nevertheless (`late`) is part of the latency and reported.
"""

import asyncio
import collections
import gc
import json
import math
import random
import resource
import time

OK, REFUSED, FAILED, GIVEN_UP = "ok", "refused", "failed", "given up"


class Request:
    __slots__ = ("data", "due", "sent", "done", "outcome", "again", "connection", "body", "waiter")

    def __init__(self, data, due):
        self.data, self.due = data, due
        self.sent = self.done = self.outcome = self.connection = self.body = self.waiter = None
        self.again = True  # whether it may be sent again on a new connection

    def end(self, outcome, body=None):
        if self.outcome is None:
            self.done, self.outcome, self.body = time.perf_counter(), outcome, body
            if self.waiter is not None and not self.waiter.done():
                self.waiter.set_result(None)


class Connection(asyncio.Protocol):
    def __init__(self, client, request):
        self.client, self.request, self.buffer, self.transport = client, request, b"", None

    def connection_made(self, transport):
        self.transport = transport
        if self.request is None:
            self.client.free.append(self)
        elif self.request.outcome is not None:
            transport.abort()
        else:
            self.send(self.request)

    def send(self, request):
        self.request, request.connection = request, self
        request.sent = request.sent or time.perf_counter()
        self.transport.write(request.data)

    def data_received(self, data):
        self.buffer += data
        if self.request is None:
            return self.transport.abort()
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        at = head.find(b"\r\ncontent-length:")
        if at < 0:
            self.request.end(FAILED)
            return self.transport.abort()
        length = int(head[at + 17 :].split(b"\r\n", 1)[0])
        if len(self.buffer) < end + 4 + length:
            return
        body, self.buffer = self.buffer[end + 4 : end + 4 + length], b""
        request, self.request = self.request, None
        status = int(head[9:12])
        request.end(OK if status == 200 else REFUSED if status in (429, 503, 504) else FAILED, body)
        if b"\r\nconnection: close" in head:
            self.transport.close()
        else:
            self.client.free.append(self)

    def connection_lost(self, _):
        request, self.request = self.request, None
        if self in self.client.free:
            self.client.free.remove(self)
        if request is None or request.outcome is not None:
            return
        # A server may close an idle connection at the moment at which it is used.
        if request.again and not self.buffer:
            request.again = False
            self.client.open(request)
        else:
            request.end(FAILED)


class Client:
    def __init__(self, port):
        self.port, self.free, self.opening = port, [], set()

    def open(self, request=None):
        task = asyncio.ensure_future(self.connect(request))
        self.opening.add(task)
        task.add_done_callback(self.opening.discard)

    async def connect(self, request):
        try:
            await asyncio.get_running_loop().create_connection(lambda: Connection(self, request), "127.0.0.1", self.port)
        except OSError:
            if request is not None:
                request.end(FAILED)

    async def prepare(self, count):
        for _ in range(count):
            self.open()
        while self.opening:
            await asyncio.sleep(0.01)

    def send(self, request):
        if self.free:
            self.free.pop().send(request)
        else:
            self.open(request)

    def close(self):
        for connection in list(self.free):
            connection.transport.abort()
        self.free.clear()


def give_up(request):
    request.end(GIVEN_UP)
    if request.connection is not None and request.connection.request is request:
        request.connection.transport.abort()


async def offer(port, requests, timeout):
    """Sends `requests`, whose `due` are seconds from now, and waits for each until `timeout` after it was due."""
    client = Client(port)
    await client.prepare(16)
    waiting, start = collections.deque(), time.perf_counter() + 0.05

    def clear():
        now = time.perf_counter()
        while waiting and (waiting[0].outcome is not None or now > waiting[0].due + timeout):
            give_up(waiting.popleft())

    for request in requests:
        request.due += start
        while (left := request.due - time.perf_counter()) > 0:
            clear()
            await asyncio.sleep(min(left - 0.0015, 0.1) if left > 0.002 else 0)
        client.send(request)
        waiting.append(request)
    while waiting:
        clear()
        await asyncio.sleep(0.002)
    client.close()
    await asyncio.sleep(0)


def post(path, body):
    data = json.dumps(body).encode()
    return b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
        path.encode(), len(data), data)


def schedule(rate, seconds, seed):
    """Times of a Poisson process with exactly `rate * seconds` arrivals."""
    draw = random.Random(seed)
    return sorted(draw.uniform(0, seconds) for _ in range(max(1, round(rate * seconds))))


def percentile(latencies, share):
    """The nearest rank; infinite where a request without an answer stands."""
    return sorted(latencies)[math.ceil(share * len(latencies)) - 1]


def run_load(port, datas, rate, seconds, seed, deadline, timeout):
    """Offers `rate` requests per second and answers the numbers of this run; `datas` are taken in turn."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    first = random.Random(seed).randrange(len(datas))
    requests = [Request(datas[(first + i) % len(datas)], due) for i, due in enumerate(schedule(rate, seconds, seed))]
    gc.collect()
    gc.disable()
    try:
        asyncio.run(offer(port, requests, timeout))
    finally:
        gc.enable()
    latencies = [1e3 * (r.done - r.due) if r.outcome == OK else math.inf for r in requests]
    late = [1e3 * ((r.sent or r.done) - r.due) for r in requests]
    return {
        "offered": rate,
        "p50_ms": percentile(latencies, 0.5),
        "p99_ms": percentile(latencies, 0.99),
        "goodput": sum(latency <= 1e3 * deadline for latency in latencies) / seconds,
        "late_p99_ms": percentile(late, 0.99),
        **{outcome: sum(r.outcome == outcome for r in requests) / len(requests) for outcome in (OK, REFUSED, FAILED, GIVEN_UP)},
    }


async def ask_all(port, datas, connections, seconds):
    """Closed loop: answers per second with so many connections, and outcomes and bodies by request."""
    client, bodies, turn, good = Client(port), {}, 0, 0
    until, start = (time.perf_counter() + seconds if seconds else math.inf), time.perf_counter()

    async def one():
        nonlocal turn, good
        while time.perf_counter() < until and (seconds or turn < len(datas)):
            data = datas[turn % len(datas)]
            turn += 1
            request = Request(data, 0)
            request.waiter = asyncio.get_running_loop().create_future()
            client.send(request)
            try:
                await asyncio.wait_for(request.waiter, 60)
            except asyncio.TimeoutError:
                give_up(request)
            good += request.outcome == OK
            bodies[data] = (request.outcome, request.body)

    await client.prepare(connections)
    await asyncio.gather(*(one() for _ in range(connections)))
    took = time.perf_counter() - start
    client.close()
    return good / took, bodies


def closed_loop(port, datas, connections, seconds=None):
    return asyncio.run(ask_all(port, datas, connections, seconds))
