// A conversation and a stream in each format by the SDKs of npm. scripts/setup installs them;
// WEIR_GATEWAY and WEIR_KEY say where the gateway is.

import Anthropic from "@anthropic-ai/sdk";
import { GoogleGenAI } from "@google/genai";
import OpenAI from "openai";

const { WEIR_GATEWAY: base, WEIR_KEY: apiKey } = process.env;
const openai = new OpenAI({ baseURL: `${base}/v1`, apiKey, maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: base, apiKey, maxRetries: 0 });
const google = new GoogleGenAI({ apiKey, httpOptions: { baseUrl: base } });
const messages = [{ role: "user", content: "say: hello" }];
// Not the wire of the format itself, so that something is translated.
const model = { openai: "anthropic/m", anthropic: "gemini/m", google: "openai/m" };

async function joined(chunks, text) {
  let all = "";
  for await (const chunk of chunks) all += text(chunk) ?? "";
  return all;
}

const cases = {
  "chat": async () =>
    (await openai.chat.completions.create({ model: model.openai, messages })).choices[0].message.content,
  "chat stream": async () =>
    joined(
      await openai.chat.completions.create({ model: model.openai, messages, stream: true }),
      (chunk) => chunk.choices[0]?.delta.content,
    ),
  "responses": async () => (await openai.responses.create({ model: model.openai, input: "say: hello" })).output_text,
  "responses stream": async () =>
    joined(await openai.responses.create({ model: model.openai, input: "say: hello", stream: true }), (event) =>
      event.type === "response.output_text.delta" ? event.delta : "",
    ),
  "messages": async () =>
    (await anthropic.messages.create({ model: model.anthropic, max_tokens: 50, messages })).content[0].text,
  "messages stream": async () =>
    anthropic.messages.stream({ model: model.anthropic, max_tokens: 50, messages }).finalText(),
  "generateContent": async () =>
    (await google.models.generateContent({ model: model.google, contents: "say: hello" })).text,
  "generateContent stream": async () =>
    joined(
      await google.models.generateContentStream({ model: model.google, contents: "say: hello" }),
      (chunk) => chunk.text,
    ),
};

let failed = 0;
for (const [name, ask] of Object.entries(cases)) {
  let said;
  try {
    said = await ask();
  } catch (error) {
    said = error;
  }
  if (said !== "hello") failed += 1;
  console.log(`node / ${name}: ${said === "hello" ? "ok" : `FAILED: ${said}`}`);
}
console.log(`sdk (node): ${Object.keys(cases).length - failed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
