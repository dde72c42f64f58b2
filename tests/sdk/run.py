"""Runs every case of every SDK at every wire, one line a case. Arguments: words that a case's line must hold.

WEIR_GATEWAY, WEIR_KEY and WEIR_SIM say where; whoever runs it starts both.
"""

import sys
import time

import anthropic_messages
import gemini
import openai_chat
import openai_responses
from common import WIRES
from refusals import LEFT_OUT, REFUSED

failed = []
passed = 0
left_out = 0


def run(cell, refusal, expected, case, *arguments):
    global passed, left_out
    line = " / ".join(part for part in cell if part != "*")
    why = LEFT_OUT.get(cell) or LEFT_OUT.get((*cell[:2], "*"))
    if any(word not in line for word in sys.argv[1:]):
        return
    if why:
        left_out += 1
        print(f"{line}: LEFT OUT: {why}")
        return
    begun = time.monotonic()
    try:
        if expected is None:
            case(*arguments)
            said = "ok"
        else:
            status, words = expected
            try:
                case(*arguments)
            except refusal as error:
                code = getattr(error, "status_code", None) or getattr(error, "code", None)
                assert code == status, f"status {code}, expected {status}: {error}"
                assert words in str(error), f"expected the words {words!r}: {error}"
            else:
                raise AssertionError(f"expected a refusal with {status} and {words!r}")
            said = f"ok: refused with {status}: {words}"
        passed += 1
    except Exception as error:  # any failure of a case is a line and a trace
        failed.append(line)
        said = "FAILED: " + " ".join(f"{type(error).__name__}: {error}".split())[:400]
    print(f"{line}: {said} ({time.monotonic() - begun:.2f} s)", flush=True)


known = set()
for module in [openai_chat, openai_responses, anthropic_messages, gemini]:
    for case in module.MATRIX:
        for wire in WIRES:
            cell = (module.NAME, case.__name__, wire)
            known.add(cell)
            run(cell, module.REFUSAL, REFUSED.get(cell), case, wire)
    for case in module.SINGLES:
        cell = (module.NAME, case.__name__, "*")
        known.add(cell)
        run(cell, module.REFUSAL, None, case)
for cell in REFUSED.keys() - known:
    failed.append(f"refusals.py names a case that is not there: {cell}")
for line in failed:
    print(f"failed: {line}")
print(f"sdk: {passed} passed, {left_out} left out, {len(failed)} failed")
sys.exit(1 if failed else 0)
