"""One measured case of `benchmarks.emit`; imports only what the case needs, so it runs in any environment."""

import json
import sys
import time
from collections.abc import Callable

WARM_UP = 300
PAUSE_EVERY = 500
PAUSE_SECONDS = 0.05


def figures(once: Callable[[], object], emits: int) -> dict[str, float]:
    for _ in range(WARM_UP):
        once()
    taken_us = []
    for i in range(emits):
        started = time.perf_counter_ns()
        once()
        taken_us.append((time.perf_counter_ns() - started) / 1_000)
        if i % PAUSE_EVERY == 0:
            time.sleep(PAUSE_SECONDS)
    taken_us.sort()
    return {f"p{p}_us": taken_us[emits * p // 100] for p in (50, 90, 99)}


def tidegate_record() -> Callable[[], object]:
    import tidegate

    now_us = time.time_ns() // 1_000

    def once() -> object:
        return tidegate.emit(
            tidegate.LLMCall(
                ts_start=now_us,
                ts_end=now_us + 900_000,
                ttft_us=200_000,
                operation="chat",
                provider="openai",
                request_model="gpt-4o",
                response_model="gpt-4o-2024",
                response_id="chatcmpl-abc",
                input_tokens=1200,
                output_tokens=300,
                finish_reasons=["stop"],
                temperature=0.2,
                user_hash="u1",
                session_id="s1",
                prompt_name="triage",
                prompt_version="7",
                deployment="chat",
                variant="canary",
                status="ok",
            )
        )

    return once


def tidegate_call() -> Callable[[], object]:
    import tidegate

    def once() -> object:
        with tidegate.call(
            provider="openai",
            request_model="gpt-4o",
            temperature=0.2,
            user_hash="u1",
            session_id="s1",
            prompt_name="triage",
            prompt_version="7",
            deployment="chat",
            variant="canary",
        ) as c:
            c.first_chunk()
            c.record.response_model = "gpt-4o-2024"
            c.record.response_id = "chatcmpl-abc"
            c.record.input_tokens = 1200
            c.record.output_tokens = 300
            c.record.finish_reasons = ["stop"]
        return c

    return once


def nowhere() -> None:
    """Make the process's client one that encodes everything and keeps nothing."""
    from tidegate.client import configuration
    from tidegate.client.client import Client
    from tidegate.client.current import install
    from tidegate.client.transport import MemoryTransport, Settled

    class Nowhere(MemoryTransport):
        def send(self, topic: str, key: str, value: bytes, settled: Settled) -> bool:
            taken = super().send(topic, key, value, settled)
            self.sent.clear()
            return taken

    given = {"app": "support", "environment": "prod", "kafka": "nowhere:0", "queue_events": 1_000_000}
    install(Client(configuration.read(given, environ={}), make_transport=Nowhere))


def away() -> None:
    import tidegate

    tidegate.configure(app="support", environment="prod", kafka="127.0.0.1:1", queue_events=1_000_000)


def opentelemetry() -> Callable[[], object]:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, _spans: object) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere(), max_queue_size=100_000))
    tracer = provider.get_tracer("benchmark")
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024",
        "gen_ai.usage.input_tokens": 1200,
        "gen_ai.usage.output_tokens": 300,
        "gen_ai.response.id": "chatcmpl-abc",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.request.temperature": 0.2,
        "user.hash": "u1",
        "session.id": "s1",
        "gen_ai.prompt.name": "triage",
        "gen_ai.prompt.version": "7",
        "service.name": "support",
        "deployment.environment.name": "prod",
        "feature_flag.key": "chat",
        "feature_flag.result.variant": "canary",
    }

    def once() -> object:
        span = tracer.start_span("chat gpt-4o", attributes=attributes)
        span.end()
        return span

    return once


def main() -> None:
    case, emits = sys.argv[1], int(sys.argv[2])
    if case == "tidegate-away":
        away()
    elif case.startswith("tidegate"):
        nowhere()
    makers = {
        "tidegate": tidegate_record,
        "tidegate-away": tidegate_record,
        "tidegate-call": tidegate_call,
        "opentelemetry": opentelemetry,
    }
    print(json.dumps(figures(makers[case](), emits)))


if __name__ == "__main__":
    main()
