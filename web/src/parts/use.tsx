// Use in my app: the current steering as code, to copy.
import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { api, unwrap } from "../api";
import { announce } from "../state/announce";
import { text } from "../state/dials";
import { codeOpen } from "../state/open";
import { findPresets, presets } from "../state/presets";
import { info } from "../state/server";
import { Dialog } from "./dialog";
import { Problem } from "./notice";
import { type Snippet, snippets } from "./snippets";

const tab = signal("curl");

export function UseInApp() {
  return codeOpen.value ? <Opened /> : null;
}

function Opened() {
  useEffect(() => void findPresets().catch(() => undefined), []);
  const saved = presets.value.find((each) => each.preset?.["steering"] === text.value && Object.keys(each.preset).length === 1);
  const all = snippets({
    address: location.origin,
    model: info.value?.model.served_as ?? "smollm2",
    steering: text.value,
    preset: saved?.name ?? null,
  });
  const shown = all.find((each) => each.id === tab.value) ?? all[0]!;
  return (
    <Dialog title="Use in my app" wide onClose={() => (codeOpen.value = false)}>
      <div class="stack">
        <p>
          {text.value === "none" ? "No dial is on, so this code steers nothing." : <>The code steers with <code>{text.value}</code>, as the dials are now.</>}
        </p>
        <div role="tablist" aria-label="Client" onKeyDown={(event) => moveTab(event, all)}>
          {all.map((each) => (
            <button
              key={each.id}
              type="button"
              role="tab"
              id={`tab-${each.id}`}
              aria-selected={each === shown}
              aria-controls="snippet"
              tabIndex={each === shown ? 0 : -1}
              onClick={() => (tab.value = each.id)}
            >
              {each.title}
            </button>
          ))}
        </div>
        <div role="tabpanel" id="snippet" aria-labelledby={`tab-${shown.id}`} class="stack">
          <p class="hint">{shown.note}</p>
          {shown.code === null ? <SavePreset /> : <Code key={shown.id} code={shown.code} title={shown.title} />}
        </div>
      </div>
    </Dialog>
  );
}

/** Arrows, Home and End choose a tab, as in every list of tabs. */
function moveTab(event: KeyboardEvent, all: readonly Snippet[]): void {
  const at = all.findIndex((each) => each.id === tab.value);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  const id = all[(to + all.length) % all.length]!.id;
  tab.value = id;
  document.getElementById(`tab-${id}`)?.focus();
}

function Code({ code, title }: { readonly code: string; readonly title: string }) {
  const [copied, setCopied] = useState<"" | "copied" | "failed">("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(code);
      setCopied("copied");
      announce(`Code for ${title} is copied`);
    } catch {
      setCopied("failed"); // pages without a secure context have no clipboard
    }
  };
  return (
    <>
      <pre tabIndex={0} aria-label={`Code for ${title}`}><code>{code}</code></pre>
      <p class="row">
        <button type="button" class="go" onClick={() => void copy()}>Copy</button>
        {copied === "copied" && <span>Copied</span>}
        {copied === "failed" && <span class="warn">▲ The browser does not allow it. Select the text and copy it.</span>}
      </p>
    </>
  );
}

/** The form that saves the dials as a preset, whose name is then a model's. */
export function SavePreset({ onSaved }: { readonly onSaved?: (name: string) => void }) {
  const [name, setName] = useState("");
  const [error, setError] = useState<unknown>(null);
  const taken = presets.value.some((each) => each.name === name);
  const save = async () => {
    setError(null);
    try {
      unwrap(await api.PUT("/v1/presets/{name}", { params: { path: { name } }, body: { steering: text.value } as never }));
      await findPresets();
      announce(`The preset ${name} is saved`);
      onSaved?.(name);
    } catch (problem) {
      setError(problem);
    }
  };
  return (
    <form class="stack tight" onSubmit={(event) => { event.preventDefault(); void save(); }}>
      <p>Save the dials as a preset. Its name is then a model's name.</p>
      <div class="row">
        <label class="row">
          <span class="label">Name</span>
          <input
            value={name}
            required
            pattern="[A-Za-z0-9][A-Za-z0-9._\-]{0,63}"
            title="Letters, digits, '.', '_' and '-'"
            autocomplete="off"
            onInput={(event) => setName(event.currentTarget.value)}
          />
        </label>
        <button class="go" disabled={!name || taken}>Save</button>
        {taken && <span class="warn">▲ There is a preset of this name</span>}
      </div>
      {error !== null && <Problem error={error} />}
    </form>
  );
}
