"""The cost of each recorded call, computed again with decimal arithmetic from the price table.

Reads call records as JSON lines from standard input; its argument is litellm's price table. It knows
nothing of Weir but the rules that crates/llm/src/money.rs states. Prints one JSON object.
"""

import json
import sys
from decimal import ROUND_HALF_EVEN, Decimal, getcontext

getcontext().prec = 80

NAMES = {
    "input": "input_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write_5m": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    "input_audio": "input_cost_per_audio_token",
    "input_image": "input_cost_per_image_token",
    "output": "output_cost_per_token",
    "reasoning": "output_cost_per_reasoning_token",
    "output_audio": "output_cost_per_audio_token",
    "output_image": "output_cost_per_image_token",
}
PARENTS = {
    "cache_read": "input", "cache_write_5m": "input", "input_audio": "input", "input_image": "input",
    "cache_write_1h": "cache_write_5m",
    "reasoning": "output", "output_audio": "output", "output_image": "output",
}
INPUTS = ["input", "cache_read", "cache_write_5m", "cache_write_1h", "input_audio", "input_image"]
TIERS = [32, 64, 128, 200, 256, 272, 512]
KINDS = {"oai": "openai", "ant": "anthropic", "gem": "gemini"}


def price(row, bucket, total_input):
    reached = [tier for tier in TIERS if total_input > tier * 1000]
    while bucket:
        for tier in reversed(reached):
            name = f"{NAMES[bucket]}_above_{tier}k_tokens"
            if row.get(name) is not None:
                return Decimal(row[name])
        if row.get(NAMES[bucket]) is not None:
            return Decimal(row[NAMES[bucket]])
        bucket = PARENTS.get(bucket)
    return Decimal(0)


def cost(row, usage):
    total_input = sum(usage[name] for name in INPUTS)
    total = sum((price(row, name, total_input) * usage[name] for name in NAMES), Decimal(0))
    return total.quantize(Decimal("1e-12"), rounding=ROUND_HALF_EVEN)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        table = json.load(file, parse_float=str)
    wrong, total, n_calls, n_tiers = [], Decimal(0), 0, 0
    for line in sys.stdin:
        call = json.loads(line)
        kind, model = KINDS[call["provider"]], call["model"]
        row = table.get(model)
        if row is None or row["litellm_provider"] != kind:
            row = table[f"{kind}/{model}"]
        expected = cost(row, call["usage"])
        n_calls += 1
        n_tiers += sum(call["usage"][name] for name in INPUTS) > 200_000
        total += expected
        if expected != Decimal(call["cost_usd"]):
            wrong.append({"model": model, "usage": call["usage"], "expected": str(expected), "recorded": call["cost_usd"]})
    print(json.dumps({"calls": n_calls, "above_200k": n_tiers, "total_usd": f"{total:f}", "wrong": wrong[:5], "n_wrong": len(wrong)}))


main()
