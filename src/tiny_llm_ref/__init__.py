"""The reference: one good answer to every task of the course. Public names are imported from here."""

from .attention import causal_mask, grouped_query_attention, multi_head_attention, scaled_dot_product_attention, softmax
from .baselines import run_continuous, run_sequential, run_static
from .batch import batch_generate
from .batching_kv_cache import BatchingKvCache
from .embedding import Embedding
from .engine import ContinuousBatchScheduler
from .event_log import BatchState, Event, EventKind, EventLog
from .generate import generate_tokens, generate_tokens_with_cache, greedy, stream_text
from .kernels.decode_attention import decode_attention
from .kernels.flash_attention import flash_attention, flash_attention_simdgroup
from .kernels.hello import scaled_add
from .kernels.matvec import matvec_simd, matvec_thread, matvec_vector
from .kernels.online_softmax import online_softmax
from .kernels.operators import COURSE, OPERATORS, kernel_attention, kernel_linear
from .kernels.paged_arrays import paged_attention_arrays
from .kernels.paged_attention import (
    attend_in_parts,
    choose_parts,
    paged_attention,
    paged_attention_decode,
    paged_attention_prefill,
    paged_attention_split,
)
from .kernels.rms_norm import fused_rms_norm
from .kv_cache import KvCache, KvCacheBase
from .linear import FusedLinear, Linear, linear
from .masking import create_batch_mask
from .measure.arrivals import arrival_times
from .measure.batching_law import continuous_steps, expected_longest, predicted_ratio, static_steps
from .measure.cost_model import Call, CostModel, FittedCost, Roofline, fit_cost, roofline_of
from .measure.dynamic_batching import DynamicBatcher
from .measure.load import closed_loop, open_loop
from .measure.request_times import RequestTimes, RunRecorder
from .measure.simulator import simulate_groups, simulate_slots
from .measure.step_work import StepWork, chunk_call, decode_call, mixed_call
from .measure.summary import Slo, Spread, Summary, percentile, spread, summarize
from .metrics import BatchingMetrics, Timeline
from .mlp import MLP, silu
from .model import Model, SelfAttention, TransformerBlock, build_block
from .model_runner import ModelRunner, sample
from .operators import ARRAYS, MLX, Operators
from .paged.adaptive_draft import AdaptiveDraft, whole_tiles
from .paged.block_pool import BlockPool, blocks_for, slot_mapping
from .paged.drafter import Drafter, ModelDrafter, NgramDrafter
from .paged.engine import Engine
from .paged.fair_queue import FairQueue
from .paged.metrics import PagedMetrics
from .paged.paged_kv_cache import PagedKvCache, gather
from .paged.prefix_cache import Match, PrefixCache
from .paged.prefix_savings import Admission, Savings, admit, measure_savings
from .paged.quantized_pool import QuantizedKvCache, dequantize_rows, quantize_rows
from .paged.ragged_batch import Group, RaggedBatch, Row, make_ragged_batch
from .paged.request import PagedRequest
from .paged.runner import PagedRunner
from .paged.scheduler import Chunk, MixedPlan, Scheduler
from .paged.simulator import simulate_paged
from .paged.speculative import SpeculativeEngine
from .paged.speculative_runner import SpeculativeRunner
from .paged.verify import accept, draw, matches, rejection_sample
from .perplexity import bytes_per_token, perplexity
from .prefill import chunk_bounds, prefill, prefill_chunk
from .quantize import QuantizedLinear, dequantize, pack, quantize, unpack
from .replicas.autoscaler import Autoscaler
from .replicas.deployment import EngineDeployment, ask_ray, deploy
from .replicas.failover import GaveUp, StreamRequest, UpstreamDied, engine_request, resume, stream_with_failover
from .replicas.fleet_report import FleetReport, ReplicaReport
from .replicas.hash_ring import ConsistentHash, HashRing, stable_hash
from .replicas.prefix_router import PrefixAware, block_keys
from .replicas.replicated_engine import ReplicatedEngine, stream_request
from .replicas.routers import LeastTokens, PowerOfTwoChoices, RoundRobin, RoutedRequest, Router
from .replicas.serve_routing import ServeRouting
from .replicas.simulate import EngineSizes, simulate_replicas
from .request import Request
from .request_book import RequestBook
from .rms_norm import RMSNorm
from .rope import RoPE, rope_frequencies
from .sampler import Sampler, SamplingParams, min_p, repetition_penalty, seen_tokens, top_k, top_p
from .scheduling import STRATEGIES, Fifo, LengthBalance, PrefillChunk, ShortestRemaining, StepPlan, Strategy, plan_step
from .server.answering import Answer
from .server.answers import (
    ApiError,
    ChatCompletionChunk,
    ChatCompletionResponse,
    CompletionLogprobs,
    CompletionResponse,
    ErrorResponse,
    TokenChance,
    TokenLogprobs,
    Usage,
)
from .server.app import create_app
from .server.engine_loop import EngineLoop
from .server.engine_thread import Draining, EngineThread, QueueFull
from .server.error_answers import explain
from .server.guard import Guard, check_key, read_body
from .server.metrics import ServerMetrics
from .server.protocol import ChatCompletionRequest, CompletionRequest, TokenizeRequest, parse_body, validation_error
from .server.sampling import ClientSampler, JsonGuide, client_sampler, compile_schema
from .server.service import Service, unless_gone
from .server.snapshot import EngineSnapshot, RequestState, take_snapshot
from .server.stream import ChatChunks, CompletionChunks, sse, stream_events
from .server.ticket import Cancelled, Delta, EngineDead, ServingError, SlowReader, Ticket
from .slots import SlotManager
from .stop_strings import StopStrings
from .text_stream import TextStream

__all__ = [
    "ARRAYS",
    "COURSE",
    "MLP",
    "MLX",
    "OPERATORS",
    "STRATEGIES",
    "AdaptiveDraft",
    "Admission",
    "Answer",
    "ApiError",
    "Autoscaler",
    "BatchState",
    "BatchingKvCache",
    "BatchingMetrics",
    "BlockPool",
    "Call",
    "Cancelled",
    "ChatChunks",
    "ChatCompletionChunk",
    "ChatCompletionRequest",
    "ChatCompletionResponse",
    "Chunk",
    "ClientSampler",
    "CompletionChunks",
    "CompletionLogprobs",
    "CompletionRequest",
    "CompletionResponse",
    "ConsistentHash",
    "ContinuousBatchScheduler",
    "CostModel",
    "Delta",
    "Drafter",
    "Draining",
    "DynamicBatcher",
    "Embedding",
    "Engine",
    "EngineDead",
    "EngineDeployment",
    "EngineLoop",
    "EngineSizes",
    "EngineSnapshot",
    "EngineThread",
    "ErrorResponse",
    "Event",
    "EventKind",
    "EventLog",
    "FairQueue",
    "Fifo",
    "FittedCost",
    "FleetReport",
    "FusedLinear",
    "GaveUp",
    "Group",
    "Guard",
    "HashRing",
    "JsonGuide",
    "KvCache",
    "KvCacheBase",
    "LeastTokens",
    "LengthBalance",
    "Linear",
    "Match",
    "MixedPlan",
    "Model",
    "ModelDrafter",
    "ModelRunner",
    "NgramDrafter",
    "Operators",
    "PagedKvCache",
    "PagedMetrics",
    "PagedRequest",
    "PagedRunner",
    "PowerOfTwoChoices",
    "PrefillChunk",
    "PrefixAware",
    "PrefixCache",
    "QuantizedKvCache",
    "QuantizedLinear",
    "QueueFull",
    "RMSNorm",
    "RaggedBatch",
    "ReplicaReport",
    "ReplicatedEngine",
    "Request",
    "RequestBook",
    "RequestState",
    "RequestTimes",
    "RoPE",
    "Roofline",
    "RoundRobin",
    "RoutedRequest",
    "Router",
    "Row",
    "RunRecorder",
    "Sampler",
    "SamplingParams",
    "Savings",
    "Scheduler",
    "SelfAttention",
    "ServeRouting",
    "ServerMetrics",
    "Service",
    "ServingError",
    "ShortestRemaining",
    "Slo",
    "SlotManager",
    "SlowReader",
    "SpeculativeEngine",
    "SpeculativeRunner",
    "Spread",
    "StepPlan",
    "StepWork",
    "StopStrings",
    "Strategy",
    "StreamRequest",
    "Summary",
    "TextStream",
    "Ticket",
    "Timeline",
    "TokenChance",
    "TokenLogprobs",
    "TokenizeRequest",
    "TransformerBlock",
    "UpstreamDied",
    "Usage",
    "accept",
    "admit",
    "arrival_times",
    "ask_ray",
    "attend_in_parts",
    "batch_generate",
    "block_keys",
    "blocks_for",
    "build_block",
    "bytes_per_token",
    "causal_mask",
    "check_key",
    "choose_parts",
    "chunk_bounds",
    "chunk_call",
    "client_sampler",
    "closed_loop",
    "compile_schema",
    "continuous_steps",
    "create_app",
    "create_batch_mask",
    "decode_attention",
    "decode_call",
    "deploy",
    "dequantize",
    "dequantize_rows",
    "draw",
    "engine_request",
    "expected_longest",
    "explain",
    "fit_cost",
    "flash_attention",
    "flash_attention_simdgroup",
    "fused_rms_norm",
    "gather",
    "generate_tokens",
    "generate_tokens_with_cache",
    "greedy",
    "grouped_query_attention",
    "kernel_attention",
    "kernel_linear",
    "linear",
    "make_ragged_batch",
    "matches",
    "matvec_simd",
    "matvec_thread",
    "matvec_vector",
    "measure_savings",
    "min_p",
    "mixed_call",
    "multi_head_attention",
    "online_softmax",
    "open_loop",
    "pack",
    "paged_attention",
    "paged_attention_arrays",
    "paged_attention_decode",
    "paged_attention_prefill",
    "paged_attention_split",
    "parse_body",
    "percentile",
    "perplexity",
    "plan_step",
    "predicted_ratio",
    "prefill",
    "prefill_chunk",
    "quantize",
    "quantize_rows",
    "read_body",
    "rejection_sample",
    "repetition_penalty",
    "resume",
    "roofline_of",
    "rope_frequencies",
    "run_continuous",
    "run_sequential",
    "run_static",
    "sample",
    "scaled_add",
    "scaled_dot_product_attention",
    "seen_tokens",
    "silu",
    "simulate_groups",
    "simulate_paged",
    "simulate_replicas",
    "simulate_slots",
    "slot_mapping",
    "softmax",
    "spread",
    "sse",
    "stable_hash",
    "static_steps",
    "stream_events",
    "stream_request",
    "stream_text",
    "stream_with_failover",
    "summarize",
    "take_snapshot",
    "top_k",
    "top_p",
    "unless_gone",
    "unpack",
    "validation_error",
    "whole_tiles",
]
