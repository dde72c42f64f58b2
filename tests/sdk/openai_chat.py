"""The SDK of OpenAI, chat completions and embeddings."""

import json

import openai

from common import *

NAME = "openai chat"
REFUSAL = openai.APIStatusError

client = openai.OpenAI(base_url=f"{BASE}/v1", api_key=KEY, max_retries=0)
tools = [
    {"type": "function", "function": {"name": tool, "description": tool, "parameters": schema}}
    for tool, schema in TOOLS.items()
]


def user(text):
    return [{"role": "user", "content": text}]


def usage_is(usage, model):
    same((usage.prompt_tokens, usage.completion_tokens), counts(model))
    same(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)


def chat(wire):
    model = name(wire)
    answer = client.chat.completions.create(model=model, messages=user("say: hello"), temperature=0.5)
    same(answer.object, "chat.completion")
    same(answer.choices[0].message.role, "assistant")
    same(answer.choices[0].message.content, "hello")
    same(answer.choices[0].finish_reason, "stop")
    usage_is(answer.usage, model)


def stream(wire):
    model = name(wire)
    chunks = list(
        client.chat.completions.create(
            model=model, messages=user(f"say: {LONG}"), stream=True, stream_options={"include_usage": True}
        )
    )
    same("".join(c.choices[0].delta.content or "" for c in chunks if c.choices), LONG)
    same([c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason], ["stop"])
    same(len({c.id for c in chunks}), 1)
    usage_is(chunks[-1].usage, model)


def stream_without_usage(wire):
    model = name(wire)
    chunks = list(client.chat.completions.create(model=model, messages=user("say: hello"), stream=True))
    same("".join(c.choices[0].delta.content or "" for c in chunks), "hello")
    assert all(c.usage is None for c in chunks)


def stream_helper(wire):
    with client.chat.completions.stream(model=name(wire), messages=user(ASK_TOOLS), tools=tools) as stream:
        for _ in stream:
            pass
        answer = stream.get_final_completion()
    calls = answer.choices[0].message.tool_calls
    same([(c.function.name, json.loads(c.function.arguments)) for c in calls], CALLS)
    same(answer.choices[0].finish_reason, "tool_calls")


def tools_and_results(wire):
    messages = user(ASK_TOOLS)
    first = client.chat.completions.create(model=name(wire), messages=messages, tools=tools)
    same(first.choices[0].finish_reason, "tool_calls")
    calls = first.choices[0].message.tool_calls
    same([(c.function.name, json.loads(c.function.arguments)) for c in calls], CALLS)
    same(len({c.id for c in calls}), 2)
    messages.append(first.choices[0].message)
    for call, said in zip(calls, RESULTS):
        messages.append({"role": "tool", "tool_call_id": call.id, "content": said})
    second = client.chat.completions.create(model=name(wire), messages=messages, tools=tools)
    has(second.choices[0].message.content, *RESULTS)
    same(second.choices[0].finish_reason, "stop")


def tool_required(wire):
    answer = client.chat.completions.create(
        model=name(wire), messages=user("what time is it?"), tools=tools[1:], tool_choice="required"
    )
    same([c.function.name for c in answer.choices[0].message.tool_calls], ["clock"])


def image(wire):
    parts = [
        {"type": "text", "text": "what is it?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG_BASE64}"}},
    ]
    answer = client.chat.completions.create(model=name(wire), messages=user(parts))
    same(answer.choices[0].message.content, IMAGE_SEEN)


def structured(wire):
    answer = client.chat.completions.parse(model=name(wire), messages=user("who?"), response_format=Person)
    assert isinstance(answer.choices[0].message.parsed, Person), answer


def structured_stream(wire):
    with client.chat.completions.stream(model=name(wire), messages=user("who?"), response_format=Person) as stream:
        answer = stream.get_final_completion()
    assert isinstance(answer.choices[0].message.parsed, Person), answer


def system(wire):
    messages = [{"role": "system", "content": "Be terse."}, *user("show system")]
    answer = client.chat.completions.create(model=name(wire), messages=messages)
    same(answer.choices[0].message.content, "Be terse.")


def developer(wire):
    messages = [{"role": "developer", "content": "Be terse."}, *user("show system")]
    answer = client.chat.completions.create(model=name(wire), messages=messages)
    same(answer.choices[0].message.content, "Be terse.")


def length(wire):
    answer = client.chat.completions.create(
        model=name(wire), messages=user(f"say: {LONG}"), max_completion_tokens=4
    )
    same(answer.choices[0].message.content, LONG[:16])
    same(answer.choices[0].finish_reason, "length")


def stop(wire):
    answer = client.chat.completions.create(model=name(wire), messages=user("say: one END two"), stop=["END"])
    same(answer.choices[0].message.content, "one ")
    same(answer.choices[0].finish_reason, "stop")


def usage(wire):
    model = name(wire)
    answer = client.chat.completions.create(model=model, messages=user(ASK_USAGE))
    usage_is(answer.usage, model)
    if wire in TELLS_CACHED:
        same(answer.usage.prompt_tokens_details.cached_tokens, USAGE["cache_read"])


def embeddings(wire):
    answer = client.embeddings.create(model=name(wire), input=["one", "two"], encoding_format="float")
    same([one.index for one in answer.data], [0, 1])
    assert len(answer.data[0].embedding) > 3 and answer.data[0].embedding != answer.data[1].embedding


def embeddings_base64(wire):
    # Without a format the SDK asks for base64 and decodes it.
    model = name(wire)
    packed = client.embeddings.create(model=model, input="one").data[0].embedding
    plain = client.embeddings.create(model=model, input="one", encoding_format="float").data[0].embedding
    assert len(packed) == len(plain), (len(packed), len(plain))
    assert all(abs(a - b) < 1e-6 for a, b in zip(packed, plain))


def bad_request(wire):
    raises(
        openai.BadRequestError,
        lambda: client.chat.completions.create(model=name(wire), messages=user("hello"), temperature="warm"),
    )


def status_429(wire):
    error = raises(
        openai.RateLimitError,
        lambda: client.chat.completions.create(model=name(f"ill-{wire}", "sim-429"), messages=user("hello")),
    )
    same(error.status_code, 429)


def status_500(wire):
    error = raises(
        openai.InternalServerError,
        lambda: client.chat.completions.create(model=name(f"ill-{wire}", "sim-500"), messages=user("hello")),
    )
    one_of(error.status_code, 500, 502)


def error_in_stream(wire):
    model = name(f"ill-{wire}", "sim-error-in-stream-3")
    ask = client.chat.completions.create
    raises(openai.APIError, lambda: list(ask(model=model, messages=user(f"say: {LONG}"), stream=True)))


def cancelled(wire):
    model = f"{wire}/sim-drip-20+sim-tokens-{4000 + WIRES.index(wire)}"
    chunks = client.chat.completions.create(model=model, messages=user("hello"), stream=True)
    next(iter(chunks))
    chunks.close()
    assert journal(model)[0]["cancelled"]


MATRIX = [
    chat, stream, stream_without_usage, stream_helper, tools_and_results, tool_required, image, structured,
    structured_stream, system, developer, length, stop, usage, embeddings, embeddings_base64, bad_request,
    status_429, status_500, error_in_stream, cancelled,
]  # fmt: skip


def unknown_model():
    error = raises(
        openai.NotFoundError, lambda: client.chat.completions.create(model="nobody/nothing", messages=user("x"))
    )
    same(error.code, "model_not_found")
    assert error.request_id


def bad_key():
    wrong = openai.OpenAI(base_url=f"{BASE}/v1", api_key="sk-weir-wrong", max_retries=0)
    raises(openai.AuthenticationError, lambda: wrong.chat.completions.create(model=name("openai"), messages=user("x")))
    raises(openai.AuthenticationError, lambda: wrong.models.list())


def retries_by_the_sdk():
    for status in [429, 503]:
        model = f"once-{status}"
        patient = client.with_options(max_retries=8)
        answer = while_ill(
            status, lambda: patient.chat.completions.create(model=model, messages=user("say: at last"))
        )
        same(answer.choices[0].message.content, "at last")


def models():
    ids = [model.id for model in client.models.list()]
    assert "fast" in ids and any(one.startswith("openai/gpt-") for one in ids), ids[:5]
    same(client.models.retrieve("fast").id, "fast")
    raises(openai.NotFoundError, lambda: client.models.retrieve("nobody/nothing"))


def asynchronous():
    import asyncio

    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{BASE}/v1", api_key=KEY) as one:
            asked = [one.chat.completions.create(model="fast", messages=user(f"say: {n}")) for n in range(20)]
            return [answer.choices[0].message.content for answer in await asyncio.gather(*asked)]

    same(asyncio.run(ask()), [str(n) for n in range(20)])


def legacy_completion():
    answer = client.completions.create(model=name("openai"), prompt="say: hello")
    same(answer.choices[0].text, "hello")


SINGLES = [unknown_model, bad_key, retries_by_the_sdk, models, asynchronous, legacy_completion]
