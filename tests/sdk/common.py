"""What the tests of all SDKs share: where the gateway is, what the simulator really produced, checks."""

import base64
import itertools
import json
import os
import threading
import time
import urllib.request

import pydantic

BASE = os.environ["WEIR_GATEWAY"]
KEY = os.environ["WEIR_KEY"]
SIM = os.environ["WEIR_SIM"]

# Providers of the configuration, one for each wire. A client of
# Responses meets that wire at `openai`, and Chat Completions at `compatible`.
WIRES = ["openai", "compatible", "anthropic", "gemini", "vertex", "bedrock", "cohere", "azure"]

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PNG_BASE64 = base64.b64encode(PNG).decode()
IMAGE_SEEN = f"image image/png {len(PNG)} bytes"

# The wires that tell how much of a prompt came from a cache, and how much of an answer was reasoning.
TELLS_CACHED = {"openai", "compatible", "anthropic", "gemini", "vertex", "bedrock", "azure"}
USAGE = {"input": 1000, "cache_read": 300, "output": 70, "reasoning": 0}
ASK_USAGE = "usage: " + json.dumps(USAGE) + "\nsay: counted"

ASK_TOOLS = 'call: weather {"city": "Oslo"}\ncall: clock {"zone": "UTC", "hours": 24}'
CALLS = [("weather", {"city": "Oslo"}), ("clock", {"zone": "UTC", "hours": 24})]
RESULTS = ["sunny", "noon"]
TOOLS = {
    "weather": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "clock": {
        "type": "object",
        "properties": {"zone": {"type": "string"}, "hours": {"type": "integer"}},
        "required": ["zone", "hours"],
    },
}
LONG = "the quick brown fox jumps over the lazy dog and runs on and on until the end of the day"


class Person(pydantic.BaseModel):
    name: str
    age: int


_numbers = itertools.count(1)


def name(wire, trouble=None):
    """A model that no other case uses, by which its call is found in the simulator's journal."""
    return f"{wire}/{trouble or f'case-{next(_numbers)}'}"


def simulator(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(SIM + path, data=data, method=method)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read().decode()


def journal(model, number=1):
    """The journal's lines of a model, once there are as many."""
    model = model.split("/", 1)[1]
    end = time.monotonic() + 20
    while True:
        lines = [json.loads(line) for line in simulator("GET", "/sim/calls").splitlines()]
        lines = [line for line in lines if line["model"] == model]
        if len(lines) >= number:
            return lines
        assert time.monotonic() < end, f"the simulator saw {len(lines)} of {number} calls of {model}"
        time.sleep(0.01)


def counts(model):
    """Tokens of prompt and answer that a call really used."""
    lines = journal(model)
    assert len(lines) == 1, lines
    usage = lines[0]["usage"]
    prompt = sum(usage[bucket] for bucket in ["input", "image", "audio", "cache_read", "cache_write_5m", "cache_write_1h"])
    return prompt, usage["output"] + usage["reasoning"] + usage["audio_output"]


def same(got, expected):
    assert got == expected, f"got {got!r}, expected {expected!r}"


def has(text, *words):
    """The words, in this order."""
    at = 0
    for word in words:
        found = text.find(word, at)
        assert found >= 0, f"no {word!r} after {at} in {text!r}"
        at = found + len(word)


def one_of(got, *expected):
    assert got in expected, f"got {got!r}, expected one of {expected!r}"


def raises(kinds, call):
    try:
        got = call()
    except kinds as error:
        return error
    raise AssertionError(f"no error, but {got!r}")


def while_ill(provider_status, call):
    """`call` begins while every provider answers with a status, and goes on after a first attempt met it.

    Its model is one that the gateway asks for once a request: each line of the journal is a request of the SDK,
    and there must be one that was refused before the one that was answered.
    """
    # A refused call is written down before its model is read.
    simulator("DELETE", "/sim/calls")
    simulator("PUT", "/sim/fault", {"status": provider_status})

    def heal():
        end = time.monotonic() + 20
        try:
            while f'"status":{provider_status}' not in simulator("GET", "/sim/calls") and time.monotonic() < end:
                time.sleep(0.01)
        finally:
            simulator("DELETE", "/sim/fault")

    healer = threading.Thread(target=heal)
    healer.start()
    try:
        answer = call()
    finally:
        healer.join()
    made = [json.loads(line)["status"] for line in simulator("GET", "/sim/calls").splitlines()]
    assert len(made) > 1 and made == [provider_status] * (len(made) - 1) + [200], made
    return answer
