// Code for other applications. Each text is complete, and is executed as it is by a test against a running server.

export interface Use {
  /** Address of the server, without a path. */
  readonly address: string;
  /** Name of the model on the server. */
  readonly model: string;
  /** Text form of the steering. */
  readonly steering: string;
  /** Name of a preset that has this steering; null if there is none yet. */
  readonly preset: string | null;
}

export interface Snippet {
  readonly id: string;
  readonly title: string;
  readonly note: string;
  /** Null where something has to be done before there is code. */
  readonly code: string | null;
}

const QUESTION = "How was your day?";

export function snippets(use: Use): readonly Snippet[] {
  return [
    { id: "curl", title: "curl", note: "Any HTTP client will do: the steering is one more field of the body.", code: curl(use) },
    { id: "python-openai", title: "Python (openai)", note: "Needs the package openai.", code: pythonOpenai(use) },
    { id: "python-trimtab", title: "Python (trimtab)", note: "Without a server: the model runs in your program.", code: pythonTrimtab(use) },
    { id: "js-openai", title: "JavaScript (openai)", note: "Needs the package openai. In TypeScript put // @ts-expect-error above the steering.", code: jsOpenai(use) },
    { id: "litellm", title: "LiteLLM", note: "Needs the package litellm.", code: litellm(use) },
    { id: "cli", title: "Command line", note: "Without a server. On Windows, write the quotes as your shell wants them.", code: cli(use) },
    { id: "model-name", title: "As a model name", note: "For Open WebUI, SillyTavern, n8n and whatever else can only choose a model.", code: modelName(use) },
  ];
}

function curl({ address, model, steering }: Use): string {
  const body = `{
  "model": ${quoted(model)},
  "messages": [{"role": "user", "content": ${quoted(QUESTION)}}],
  "max_tokens": 40,
  "temperature": 0,
  "steering": ${quoted(steering)}
}`;
  return `curl -s ${shell(`${address}/v1/chat/completions`)} -H 'content-type: application/json' -d ${shell(body)}`;
}

function pythonOpenai({ address, model, steering }: Use): string {
  return `from openai import OpenAI

client = OpenAI(base_url=${quoted(`${address}/v1`)}, api_key="none")
answer = client.chat.completions.create(
    model=${quoted(model)},
    messages=[{"role": "user", "content": ${quoted(QUESTION)}}],
    max_tokens=40,
    temperature=0,
    extra_body={"steering": ${quoted(steering)}},
)
print(answer.choices[0].message.content)`;
}

function pythonTrimtab({ model, steering }: Use): string {
  const steered = steering === "none" ? "" : `, steering=${quoted(steering)}`;
  return `import trimtab

model = trimtab.load(${model === "smollm2" ? "" : quoted(model)})
answer = model.generate(${quoted(QUESTION)}${steered}, max_new_tokens=40)
print(answer.text)
print(answer.receipt)`;
}

function jsOpenai({ address, model, steering }: Use): string {
  return `import OpenAI from "openai";

const client = new OpenAI({ baseURL: ${quoted(`${address}/v1`)}, apiKey: "none" });
const answer = await client.chat.completions.create({
  model: ${quoted(model)},
  messages: [{ role: "user", content: ${quoted(QUESTION)} }],
  max_tokens: 40,
  temperature: 0,
  steering: ${quoted(steering)},
});
console.log(answer.choices[0].message.content);`;
}

function litellm({ address, model, steering }: Use): string {
  return `import litellm

answer = litellm.completion(
    model=${quoted(`openai/${model}`)},
    api_base=${quoted(`${address}/v1`)},
    api_key="none",
    messages=[{"role": "user", "content": ${quoted(QUESTION)}}],
    max_tokens=40,
    temperature=0,
    extra_body={"steering": ${quoted(steering)}},
)
print(answer.choices[0].message.content)`;
}

function cli({ model, steering }: Use): string {
  const parts = ["trimtab generate", shell(QUESTION)];
  if (steering !== "none") parts.push(`--steer ${shell(steering)}`);
  if (model !== "smollm2") parts.push(`--model ${shell(model)}`);
  return [...parts, "--max-new-tokens 40"].join(" ");
}

function modelName({ address, model, preset }: Use): string | null {
  if (preset === null) return null;
  const body = `{
  "model": ${quoted(`${model}:${preset}`)},
  "messages": [{"role": "user", "content": ${quoted(QUESTION)}}],
  "max_tokens": 40,
  "temperature": 0
}`;
  return `# In the settings of the application:
#   base URL  ${address}/v1
#   API key   none
#   model     ${model}:${preset}
curl -s ${shell(`${address}/v1/chat/completions`)} -H 'content-type: application/json' -d ${shell(body)}`;
}

/** Return a string literal that JSON, Python and JavaScript read alike. */
function quoted(text: string): string {
  return JSON.stringify(text);
}

/** Return a word of a POSIX shell. */
function shell(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
