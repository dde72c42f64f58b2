"""The SDK of Anthropic, Messages."""

import anthropic

from common import *

NAME = "anthropic messages"
REFUSAL = anthropic.APIStatusError

client = anthropic.Anthropic(base_url=BASE, api_key=KEY, max_retries=0)
tools = [{"name": tool, "description": tool, "input_schema": schema} for tool, schema in TOOLS.items()]


def user(text):
    return [{"role": "user", "content": text}]


def ask(model, content, **more):
    more.setdefault("max_tokens", 500)
    messages = content if isinstance(content, list) else user(content)
    return client.messages.create(model=model, messages=messages, **more)


def text(answer):
    return "".join(part.text for part in answer.content if part.type == "text")


def usage_is(usage, model):
    prompt = usage.input_tokens + (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
    same((prompt, usage.output_tokens), counts(model))


def calls_of(answer):
    return [part for part in answer.content if part.type == "tool_use"]


def chat(wire):
    model = name(wire)
    answer = ask(model, "say: hello")
    same((answer.type, answer.role, text(answer), answer.stop_reason), ("message", "assistant", "hello", "end_turn"))
    usage_is(answer.usage, model)


def stream(wire):
    model = name(wire)
    with client.messages.stream(model=model, messages=user(f"say: {LONG}"), max_tokens=500) as stream:
        said = "".join(stream.text_stream)
        answer = stream.get_final_message()
    same((said, text(answer), answer.stop_reason), (LONG, LONG, "end_turn"))
    usage_is(answer.usage, model)


def stream_events(wire):
    kinds = [event.type for event in ask(name(wire), "say: hello", stream=True)]
    kinds = [kind for kind in kinds if kind not in ("ping", "content_block_delta")]
    same(kinds, ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"])


def stream_tools(wire):
    with client.messages.stream(model=name(wire), messages=user(ASK_TOOLS), max_tokens=500, tools=tools) as stream:
        answer = stream.get_final_message()
    same([(c.name, c.input) for c in calls_of(answer)], CALLS)
    same(answer.stop_reason, "tool_use")


def tools_and_results(wire):
    messages = user(ASK_TOOLS)
    first = ask(name(wire), messages, tools=tools)
    same(first.stop_reason, "tool_use")
    calls = calls_of(first)
    same([(c.name, c.input) for c in calls], CALLS)
    same(len({c.id for c in calls}), 2)
    messages.append({"role": "assistant", "content": first.content})
    results = [
        {"type": "tool_result", "tool_use_id": call.id, "content": said} for call, said in zip(calls, RESULTS)
    ]
    messages.append({"role": "user", "content": results})
    second = ask(name(wire), messages, tools=tools)
    has(text(second), *RESULTS)
    same(second.stop_reason, "end_turn")


def tool_required(wire):
    answer = ask(name(wire), "what time is it?", tools=tools[1:], tool_choice={"type": "any"})
    same([c.name for c in calls_of(answer)], ["clock"])


def image(wire):
    source = {"type": "base64", "media_type": "image/png", "data": PNG_BASE64}
    parts = [{"type": "image", "source": source}, {"type": "text", "text": "what is it?"}]
    same(text(ask(name(wire), user(parts))), IMAGE_SEEN)


def structured(wire):
    answer = client.messages.parse(model=name(wire), messages=user("who?"), max_tokens=500, output_format=Person)
    assert isinstance(answer.parsed_output, Person), answer


def system(wire):
    same(text(ask(name(wire), "show system", system="Be terse.")), "Be terse.")


def system_of_parts(wire):
    parts = [{"type": "text", "text": "Be terse."}, {"type": "text", "text": "Be kind."}]
    has(text(ask(name(wire), "show system", system=parts)), "Be terse.", "Be kind.")


def length(wire):
    answer = ask(name(wire), f"say: {LONG}", max_tokens=4)
    same((text(answer), answer.stop_reason), (LONG[:16], "max_tokens"))


def stop(wire):
    answer = ask(name(wire), "say: one END two", stop_sequences=["END"])
    same(text(answer), "one ")
    # Not every provider tells a stop at a sequence from an end.
    one_of((answer.stop_reason, answer.stop_sequence), ("stop_sequence", "END"), ("stop_sequence", None), ("end_turn", None))
    if wire == "anthropic":
        same(answer.stop_sequence, "END")


def usage(wire):
    model = name(wire)
    answer = ask(model, ASK_USAGE)
    usage_is(answer.usage, model)
    if wire in TELLS_CACHED:
        same(answer.usage.cache_read_input_tokens, USAGE["cache_read"])


def status_429(wire):
    error = raises(anthropic.RateLimitError, lambda: ask(name(f"ill-{wire}", "sim-429"), "hello"))
    same(error.body["error"]["type"], "rate_limit_error")


def status_529(wire):
    raises(anthropic.InternalServerError, lambda: ask(name(f"ill-{wire}", "sim-529"), "hello"))


def error_in_stream(wire):
    model = name(f"ill-{wire}", "sim-error-in-stream-3")
    raises(anthropic.APIError, lambda: list(ask(model, f"say: {LONG}", stream=True)))


def cancelled(wire):
    model = f"{wire}/sim-drip-20+sim-tokens-{4200 + WIRES.index(wire)}"
    with client.messages.stream(model=model, messages=user("hello"), max_tokens=5000) as stream:
        next(iter(stream.text_stream))
    assert journal(model)[0]["cancelled"]


def count_tokens(wire):
    counted = client.messages.count_tokens(model=name(wire), messages=user("how many are these?"))
    assert counted.input_tokens > 2, counted


MATRIX = [
    chat, stream, stream_events, stream_tools, tools_and_results, tool_required, image, structured, system,
    system_of_parts, length, stop, usage, status_429, status_529, error_in_stream, cancelled, count_tokens,
]  # fmt: skip


def unknown_model():
    error = raises(anthropic.NotFoundError, lambda: ask("nobody/nothing", "x"))
    same(error.body["error"]["type"], "not_found_error")
    assert error.request_id


def bad_key():
    wrong = anthropic.Anthropic(base_url=BASE, api_key="sk-weir-wrong", max_retries=0)
    raises(
        anthropic.AuthenticationError,
        lambda: wrong.messages.create(model="fast", max_tokens=9, messages=user("x")),
    )


def key_as_bearer():
    bearer = anthropic.Anthropic(base_url=BASE, auth_token=KEY, api_key=None, max_retries=0)
    answer = bearer.messages.create(model="fast", max_tokens=9, messages=user("say: hello"))
    same(text(answer), "hello")


def retries_by_the_sdk():
    for status in [429, 503]:
        model = f"once-{status}"
        patient = client.with_options(max_retries=8)
        answer = while_ill(
            status,
            lambda: patient.messages.create(model=model, max_tokens=9, messages=user("say: at last")),
        )
        same(text(answer), "at last")


def models():
    ids = [model.id for model in client.models.list(limit=1000)]
    assert "fast" in ids, ids[:5]
    paged = [model.id for model in client.models.list(limit=7)]
    same(paged, ids)
    same(client.models.retrieve("fast").id, "fast")


SINGLES = [unknown_model, bad_key, key_as_bearer, retries_by_the_sdk, models]
