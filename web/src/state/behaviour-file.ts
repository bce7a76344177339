// Files of behaviours and of pairs. The server reads TOML; what comes as JSON or JSONL is written as TOML here.

type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** Return the text of a behaviour from a file: TOML, JSON, or pairs as JSON or JSONL.
 * Throws an Error that says what is wrong with it. */
export function asToml(fileName: string, text: string, name: string): string {
  const ending = fileName.toLowerCase().split(".").at(-1);
  if (ending === "toml") return text;
  if (ending !== "json" && ending !== "jsonl") throw new Error(`${fileName} is no .toml, .json or .jsonl file`);
  const content = ending === "jsonl" ? lines(fileName, text) : parsed(fileName, text);
  if (Array.isArray(content)) return behaviourOfPairs(content as readonly Json[], name);
  if (typeof content !== "object" || content === null) throw new Error(`${fileName} has neither a behaviour nor pairs`);
  return table(content as { readonly [key: string]: Json });
}

function lines(fileName: string, text: string): Json {
  return text.split("\n").flatMap((line, n) => (line.trim() ? [parsed(`${fileName}, line ${n + 1},`, line)] : []));
}

function parsed(where: string, text: string): Json {
  try {
    return JSON.parse(text) as Json;
  } catch {
    throw new Error(`${where} is not JSON`);
  }
}

function behaviourOfPairs(pairs: readonly Json[], name: string): string {
  return table({ name: name || "mine", positive: { label: "positive" }, negative: { label: "negative" }, pairs });
}

function table(content: { readonly [key: string]: Json }): string {
  return Object.entries(content).map(([key, value]) => `${JSON.stringify(key)} = ${written(value)}\n`).join("");
}

function written(value: Json): string {
  if (value === null) return '""'; // TOML has no null
  if (Array.isArray(value)) return `[\n${value.map((each: Json) => `  ${written(each)},\n`).join("")}]`;
  if (typeof value === "object") {
    const entries = Object.entries(value).map(([key, inner]) => `${JSON.stringify(key)} = ${written(inner)}`);
    return `{ ${entries.join(", ")} }`;
  }
  return JSON.stringify(value);
}
