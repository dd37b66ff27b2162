// The client `ai` of npm: usage: node transcribe_by_ai.mjs URL RECORDING NODE_MODULES
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [url, recording, modules] = process.argv.slice(2);
const { resolve } = createRequire(`${modules}/`);
const { experimental_transcribe: transcribe } = await import(pathToFileURL(resolve("ai")));
const { createOpenAI } = await import(pathToFileURL(resolve("@ai-sdk/openai")));

const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: "any" });
const audio = await readFile(recording);
const found = {};
for (const name of ["whisper-1", "gpt-4o-transcribe"]) {
  const { text, segments, durationInSeconds, warnings } = await transcribe({ model: openai.transcription(name), audio });
  found[name] = { text, segments, durationInSeconds, warnings };
}
console.log(JSON.stringify(found));
