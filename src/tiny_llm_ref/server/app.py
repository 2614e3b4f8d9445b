"""The app: which path does what. `guard` is in front of it, and `answering` answers a body."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST

from tiny_llm_kit.course import task
from tiny_llm_kit.models.tokenizer import Tokenizer
from tiny_llm_kit.server_page import PAGE_FILES, PAGE_POLICY, read_page_file

from ..paged.request import PagedRequest
from ..request import Request
from .answering import Answer
from .answers import ChatCompletionResponse, CompletionResponse, ErrorResponse, ModelCard, ModelList, TokenizeResponse
from .engine_thread import EngineThread
from .error_answers import answer_all_errors, error_answer
from .guard import MAX_BODY_BYTES, Guard
from .metrics import ServerMetrics
from .protocol import ChatCompletionRequest, CompletionRequest, TokenizeRequest
from .service import Service
from .stream import sse
from .ticket import EngineDead

LIVE_SECONDS = 0.2
"""Seconds between two looks at the engine, for the page."""

_ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorResponse}, "5XX": {"model": ErrorResponse}}


def create_app(
    engine: EngineThread,
    model_name: str,
    tokenizer: Tokenizer,
    *,
    max_seq_len: int | None = None,
    request_type: type[Request] = PagedRequest,
    api_key: str | None = None,
    request_timeout: float = 600.0,
    max_body_bytes: int = MAX_BODY_BYTES,
) -> FastAPI:
    """The app of one model behind one engine, whose thread has been started.

    Args: see `Service` and `Guard`. `max_seq_len` is the engine's, unless another is given.
    """
    longest = max_seq_len or engine.stats().max_seq_len
    service = Service(engine, model_name, tokenizer, longest, request_type, request_timeout)
    app = FastAPI(title="tiny-llm", docs_url=None, redoc_url=None, responses=_ERRORS)
    app.add_middleware(Guard, api_key=api_key, max_body_bytes=max_body_bytes)
    answer_all_errors(app)
    app.include_router(openai_routes(service))
    app.include_router(watching_routes(engine, model_name))
    app.include_router(page_routes())
    return app


@task(week=3, day=6, number=5)
def openai_routes(service: Service) -> APIRouter:
    """What OpenAI's clients ask for: POST `/v1/completions` and `/v1/chat/completions`, GET `/v1/models`; and vLLM's POST
    `/tokenize`.
    """
    routes = APIRouter()

    @routes.post("/v1/completions", response_model=CompletionResponse)
    async def completions(body: CompletionRequest) -> Response:
        return Answer(service, body)

    @routes.post("/v1/chat/completions", response_model=ChatCompletionResponse)
    async def chat_completions(body: ChatCompletionRequest) -> Response:
        return Answer(service, body)

    @routes.get("/v1/models")
    async def models() -> ModelList:
        return ModelList(data=[ModelCard(id=service.model_name)])

    @routes.post("/tokenize")
    async def tokenize(body: TokenizeRequest) -> TokenizeResponse:
        service.check_model(body.model)
        (tokens,) = await service.off_loop(service.encode, body)
        return TokenizeResponse(count=len(tokens), max_model_len=service.max_seq_len, tokens=tokens)

    return routes


def watching_routes(engine: EngineThread, model_name: str) -> APIRouter:
    """Paths for observers: `/health` for a load balancer, `/metrics` for a monitor, `/live` for the page."""
    routes = APIRouter()
    metrics = ServerMetrics(model_name, engine.stats)
    engine.post(lambda built: built.event_log.readers.append(metrics.read))

    @routes.get("/health")
    async def health() -> Response:
        """200 while requests can be served, otherwise 503 with the reason."""
        return JSONResponse({"status": "ok"}) if engine.healthy else error_answer(EngineDead(str(engine.reason)))

    @routes.get("/metrics", response_class=Response)
    async def show_metrics() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @routes.get("/live", include_in_schema=False)
    async def live() -> Response:
        return StreamingResponse(_live(engine), media_type="text/event-stream", headers={"cache-control": "no-store"})

    return routes


async def _live(engine: EngineThread) -> AsyncIterator[bytes]:
    """What the engine does, again and again, until it shuts down: then the page asks again, and hears from the next server."""
    while True:
        yield sse({**asdict(engine.stats()), "reason": engine.reason})
        if not engine.healthy:
            return
        await asyncio.sleep(LIVE_SECONDS)


def page_routes() -> APIRouter:
    """The page at `/`, and its files next to it."""
    routes = APIRouter()
    for name in PAGE_FILES:
        path = "/" if name == "index.html" else f"/{name}"
        routes.add_api_route(path, partial(_page_file, name), response_class=Response, include_in_schema=False)
    return routes


async def _page_file(name: str) -> Response:
    headers = {"content-security-policy": PAGE_POLICY, "cache-control": "no-cache"}
    return Response(read_page_file(name), media_type=PAGE_FILES[name], headers=headers)
