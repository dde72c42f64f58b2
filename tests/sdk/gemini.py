"""The SDK of Google, generateContent and embeddings."""

from google import genai
from google.genai import errors, types

from common import *

NAME = "gemini"
REFUSAL = errors.APIError


def made(key=KEY, retries=None):
    options = types.HttpOptions(base_url=BASE, retry_options=retries)
    return genai.Client(api_key=key, http_options=options)


client = made()
declared = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(name=tool, description=tool, parameters_json_schema=schema)
        for tool, schema in TOOLS.items()
    ]
)


def ask(model, contents, one=None, **config):
    config = types.GenerateContentConfig(**config)
    return (one or client).models.generate_content(model=model, contents=contents, config=config)


def usage_is(usage, model):
    produced = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
    same((usage.prompt_token_count, produced), counts(model))


def calls_of(answer):
    return [(call.name, call.args) for call in answer.function_calls or []]


def chat(wire):
    model = name(wire)
    answer = ask(model, "say: hello", temperature=0.5)
    same((answer.text, answer.candidates[0].finish_reason.name), ("hello", "STOP"))
    same(answer.candidates[0].content.role, "model")
    usage_is(answer.usage_metadata, model)


def stream(wire):
    model = name(wire)
    chunks = list(client.models.generate_content_stream(model=model, contents=f"say: {LONG}"))
    same("".join(chunk.text or "" for chunk in chunks), LONG)
    same(chunks[-1].candidates[0].finish_reason.name, "STOP")
    usage_is(chunks[-1].usage_metadata, model)


def stream_tools(wire):
    config = types.GenerateContentConfig(tools=[declared])
    chunks = client.models.generate_content_stream(model=name(wire), contents=ASK_TOOLS, config=config)
    same([call for chunk in chunks for call in calls_of(chunk)], CALLS)


def tools_and_results(wire):
    asked = types.Content(role="user", parts=[types.Part(text=ASK_TOOLS)])
    first = ask(name(wire), [asked], tools=[declared])
    same(calls_of(first), CALLS)
    results = types.Content(
        role="user",
        parts=[
            types.Part(
                function_response=types.FunctionResponse(id=call.id, name=call.name, response={"result": said})
            )
            for call, said in zip(first.function_calls, RESULTS)
        ],
    )
    second = ask(name(wire), [asked, first.candidates[0].content, results], tools=[declared])
    has(second.text, *RESULTS)


def tool_required(wire):
    one = types.Tool(function_declarations=declared.function_declarations[1:])
    calling = types.ToolConfig(function_calling_config=types.FunctionCallingConfig(mode="ANY"))
    answer = ask(name(wire), "what time is it?", tools=[one], tool_config=calling)
    same([called for called, _ in calls_of(answer)], ["clock"])


def automatic_functions(wire):
    asked = []

    def weather(city: str) -> str:
        """Tells the weather of a city."""
        asked.append(city)
        return "sunny"

    # The SDK calls the function and sends its result back.
    answer = ask(name(wire), 'call: weather {"city": "Oslo"}', tools=[weather])
    same(asked, ["Oslo"])
    has(answer.text, "sunny")


def image(wire):
    picture = types.Part.from_bytes(data=PNG, mime_type="image/png")
    same(ask(name(wire), ["what is it?", picture]).text, IMAGE_SEEN)


def structured(wire):
    answer = ask(name(wire), "who?", response_mime_type="application/json", response_schema=Person)
    assert isinstance(answer.parsed, Person), answer


def structured_json_schema(wire):
    schema = Person.model_json_schema()
    answer = ask(name(wire), "who?", response_mime_type="application/json", response_json_schema=schema)
    Person.model_validate_json(answer.text)


def system(wire):
    same(ask(name(wire), "show system", system_instruction="Be terse.").text, "Be terse.")


def length(wire):
    answer = ask(name(wire), f"say: {LONG}", max_output_tokens=4)
    same((answer.text, answer.candidates[0].finish_reason.name), (LONG[:16], "MAX_TOKENS"))


def stop(wire):
    answer = ask(name(wire), "say: one END two", stop_sequences=["END"])
    same((answer.text, answer.candidates[0].finish_reason.name), ("one ", "STOP"))


def usage(wire):
    model = name(wire)
    answer = ask(model, ASK_USAGE)
    usage_is(answer.usage_metadata, model)
    if wire in TELLS_CACHED:
        same(answer.usage_metadata.cached_content_token_count, USAGE["cache_read"])


def conversation(wire):
    talk = client.chats.create(model=name(wire))
    same(talk.send_message("say: one").text, "one")
    same(talk.send_message("say: two").text, "two")
    same(len(talk.get_history()), 4)


def embeddings(wire):
    answer = client.models.embed_content(model=name(wire), contents=["one", "two"])
    same(len(answer.embeddings), 2)
    assert len(answer.embeddings[0].values) > 3
    assert answer.embeddings[0].values != answer.embeddings[1].values


def status_429(wire):
    error = raises(errors.ClientError, lambda: ask(name(f"ill-{wire}", "sim-429"), "hello"))
    same((error.code, error.status), (429, "RESOURCE_EXHAUSTED"))


def status_500(wire):
    error = raises(errors.ServerError, lambda: ask(name(f"ill-{wire}", "sim-500"), "hello"))
    one_of(error.code, 500, 502)


def error_in_stream(wire):
    chunks = client.models.generate_content_stream(
        model=name(f"ill-{wire}", "sim-error-in-stream-3"), contents=f"say: {LONG}"
    )
    raises(errors.APIError, lambda: list(chunks))


def cancelled(wire):
    model = f"{wire}/sim-drip-20+sim-tokens-{4300 + WIRES.index(wire)}"
    chunks = client.models.generate_content_stream(model=model, contents="hello")
    next(chunks)
    chunks.close()
    assert journal(model)[0]["cancelled"]


def count_tokens(wire):
    counted = client.models.count_tokens(model=name(wire), contents="how many are these?")
    assert counted.total_tokens > 2, counted


MATRIX = [
    chat, stream, stream_tools, tools_and_results, tool_required, automatic_functions, image, structured,
    structured_json_schema, system, length, stop, usage, conversation, embeddings, status_429, status_500,
    error_in_stream, cancelled, count_tokens,
]  # fmt: skip


def unknown_model():
    error = raises(errors.ClientError, lambda: ask("nobody/nothing", "x"))
    same((error.code, error.status), (404, "NOT_FOUND"))


def bad_key():
    error = raises(errors.ClientError, lambda: ask("fast", "x", one=made(key="sk-weir-wrong")))
    one_of(error.code, 400, 401, 403)


def retries_by_the_sdk():
    retries = types.HttpRetryOptions(attempts=9, initial_delay=0.2, max_delay=1)
    patient = made(retries=retries)
    for status in [429, 503]:
        model = f"once-{status}"
        answer = while_ill(status, lambda: ask(model, "say: at last", one=patient))
        same(answer.text, "at last")


def models():
    names = [model.name for model in client.models.list()]
    assert "models/fast" in names, names[:5]
    same(client.models.get(model="fast").name, "models/fast")


SINGLES = [unknown_model, bad_key, retries_by_the_sdk, models]
