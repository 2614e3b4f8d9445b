from fastapi import APIRouter
from fastapi.responses import Response

from tiny_llm_kit.course import task

from .answering import Answer
from .answers import ChatCompletionResponse, CompletionResponse, ModelCard, ModelList, TokenizeResponse
from .protocol import ChatCompletionRequest, CompletionRequest, TokenizeRequest
from .service import Service


@task(week=3, day=6, number=5)
def openai_routes(service: Service) -> APIRouter:
    async def complete(body: CompletionRequest) -> Response:
        return Answer(service, body)

    async def chat(body: ChatCompletionRequest) -> Response:
        return Answer(service, body)

    async def models() -> ModelList:
        return ModelList(data=[ModelCard(id=service.model_name)])

    async def tokenize(body: TokenizeRequest) -> TokenizeResponse:
        service.check_model(body.model)
        tokens = (await service.off_loop(service.encode, body))[0]
        return TokenizeResponse(tokens=tokens, count=len(tokens), max_model_len=service.max_seq_len)

    router = APIRouter(prefix="/v1")
    router.add_api_route("/completions", complete, methods=["POST"], response_model=CompletionResponse)
    router.add_api_route("/chat/completions", chat, methods=["POST"], response_model=ChatCompletionResponse)
    router.add_api_route("/models", models, methods=["GET"])
    both = APIRouter()
    both.include_router(router)
    both.add_api_route("/tokenize", tokenize, methods=["POST"])
    return both
