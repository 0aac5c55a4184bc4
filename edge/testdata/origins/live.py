"""Server-sent events and WebSockets by Starlette, sse-starlette and wsproto on uvicorn, each in its ordinary use."""

import asyncio

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

subscribers: set[asyncio.Queue] = set()


async def events(request):
    """Sends what is published from now on, and comments as heartbeats."""
    queue: asyncio.Queue = asyncio.Queue()

    async def stream():
        subscribers.add(queue)
        try:
            yield {"event": "ready", "data": request.headers.get("last-event-id", "-")}
            while True:
                yield await queue.get()
        finally:
            subscribers.discard(queue)

    return EventSourceResponse(stream(), ping=1)


async def publish(request):
    body = (await request.body()).decode()
    for queue in subscribers:
        queue.put_nowait({"event": "news", "id": "7", "data": body})
    return PlainTextResponse(str(len(subscribers)))


async def echo(ws):
    """Sends back what it gets, text as text and bytes as bytes; "bye" makes it close with 4001."""
    await ws.accept(subprotocol=ws.scope["subprotocols"][0] if ws.scope["subprotocols"] else None)
    try:
        while True:
            message = await ws.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("text") == "bye":
                await ws.close(code=4001)
                return
            if message.get("text") is not None:
                await ws.send_text(message["text"])
            else:
                await ws.send_bytes(message["bytes"])
    except WebSocketDisconnect:
        pass


app = Starlette(
    routes=[
        Route("/live/events", events),
        Route("/live/publish", publish, methods=["POST"]),
        WebSocketRoute("/live/ws", echo),
    ]
)
