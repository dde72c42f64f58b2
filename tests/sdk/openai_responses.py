"""The SDK of OpenAI, Responses."""

import json

import openai

from common import *

NAME = "openai responses"
REFUSAL = openai.APIStatusError

client = openai.OpenAI(base_url=f"{BASE}/v1", api_key=KEY, max_retries=0)
tools = [
    {"type": "function", "name": tool, "description": tool, "parameters": schema, "strict": False}
    for tool, schema in TOOLS.items()
]


def usage_is(usage, model):
    same((usage.input_tokens, usage.output_tokens), counts(model))
    same(usage.total_tokens, usage.input_tokens + usage.output_tokens)


def calls_of(answer):
    return [item for item in answer.output if item.type == "function_call"]


def chat(wire):
    model = name(wire)
    answer = client.responses.create(model=model, input="say: hello")
    same((answer.object, answer.status, answer.output_text), ("response", "completed", "hello"))
    usage_is(answer.usage, model)


def stream(wire):
    model = name(wire)
    events = list(client.responses.create(model=model, input=f"say: {LONG}", stream=True))
    same("".join(e.delta for e in events if e.type == "response.output_text.delta"), LONG)
    same(events[0].type, "response.created")
    same([e.sequence_number for e in events], list(range(len(events))))
    last = events[-1]
    same((last.type, last.response.output_text), ("response.completed", LONG))
    usage_is(last.response.usage, model)


def stream_helper(wire):
    with client.responses.stream(model=name(wire), input=ASK_TOOLS, tools=tools) as stream:
        for _ in stream:
            pass
        answer = stream.get_final_response()
    same([(c.name, json.loads(c.arguments)) for c in calls_of(answer)], CALLS)


def tools_and_results(wire):
    asked = [{"role": "user", "content": ASK_TOOLS}]
    first = client.responses.create(model=name(wire), input=asked, tools=tools)
    calls = calls_of(first)
    same([(c.name, json.loads(c.arguments)) for c in calls], CALLS)
    same(len({c.call_id for c in calls}), 2)
    asked += first.output
    for call, said in zip(calls, RESULTS):
        asked.append({"type": "function_call_output", "call_id": call.call_id, "output": said})
    second = client.responses.create(model=name(wire), input=asked, tools=tools)
    has(second.output_text, *RESULTS)


def tool_required(wire):
    answer = client.responses.create(
        model=name(wire), input="what time is it?", tools=tools[1:], tool_choice="required"
    )
    same([c.name for c in calls_of(answer)], ["clock"])


def image(wire):
    parts = [
        {"type": "input_text", "text": "what is it?"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PNG_BASE64}", "detail": "auto"},
    ]
    answer = client.responses.create(model=name(wire), input=[{"role": "user", "content": parts}])
    same(answer.output_text, IMAGE_SEEN)


def structured(wire):
    answer = client.responses.parse(model=name(wire), input="who?", text_format=Person)
    assert isinstance(answer.output_parsed, Person), answer


def system(wire):
    answer = client.responses.create(model=name(wire), instructions="Be terse.", input="show system")
    same(answer.output_text, "Be terse.")


def length(wire):
    answer = client.responses.create(model=name(wire), input=f"say: {LONG}", max_output_tokens=16)
    same((answer.status, answer.incomplete_details.reason), ("incomplete", "max_output_tokens"))
    same(answer.output_text, LONG[:64])


def usage(wire):
    model = name(wire)
    answer = client.responses.create(model=model, input=ASK_USAGE)
    usage_is(answer.usage, model)
    if wire in TELLS_CACHED:
        same(answer.usage.input_tokens_details.cached_tokens, USAGE["cache_read"])


def error_in_stream(wire):
    def read():
        events = list(
            client.responses.create(
                model=name(f"ill-{wire}", "sim-error-in-stream-3"), input=f"say: {LONG}", stream=True
            )
        )
        # The SDK raises what is called `error`; a response that failed is an event like others.
        assert events[-1].type == "response.failed", events[-1]
        raise openai.APIError(events[-1].response.error.message, None, body=None)

    raises(openai.APIError, read)


def status_429(wire):
    raises(
        openai.RateLimitError,
        lambda: client.responses.create(model=name(f"ill-{wire}", "sim-429"), input="hello"),
    )


def cancelled(wire):
    model = f"{wire}/sim-drip-20+sim-tokens-{4100 + WIRES.index(wire)}"
    with client.responses.create(model=model, input="hello", stream=True) as events:
        for event in events:
            if event.type == "response.output_text.delta":
                break
    assert journal(model)[0]["cancelled"]


def count_tokens(wire):
    counted = client.responses.input_tokens.count(model=name(wire), input="how many are these?")
    assert counted.input_tokens > 2, counted


MATRIX = [
    chat, stream, stream_helper, tools_and_results, tool_required, image, structured, system, length, usage,
    error_in_stream, status_429, cancelled, count_tokens,
]  # fmt: skip


def unknown_model():
    raises(openai.NotFoundError, lambda: client.responses.create(model="nobody/nothing", input="x"))


def bad_key():
    wrong = openai.OpenAI(base_url=f"{BASE}/v1", api_key="sk-weir-wrong", max_retries=0)
    raises(openai.AuthenticationError, lambda: wrong.responses.create(model="fast", input="x"))


def retries_by_the_sdk():
    for status in [429, 503]:
        model = f"once-{status}"
        patient = client.with_options(max_retries=8)
        answer = while_ill(status, lambda: patient.responses.create(model=model, input="say: at last"))
        same(answer.output_text, "at last")


SINGLES = [unknown_model, bad_key, retries_by_the_sdk]
