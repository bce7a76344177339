// Saving the dials as a preset: a name that any client can use as its model.
import { useSignal } from "@preact/signals";
import { api, ApiError, key, unwrap } from "../api";
import { Dialog } from "./dialog";
import { Problem } from "./notice";
import { text } from "../state/dials";
import { presetOpen } from "../state/open";
import { findPresets, presets } from "../state/presets";
import { info, refresh } from "../state/server";
import { sampling } from "../state/talk";

const NAME = "[A-Za-z0-9][A-Za-z0-9._\\-]*";

export function SavePreset() {
  return presetOpen.value ? <Form /> : null;
}

function Form() {
  const name = useSignal("");
  const system = useSignal("");
  const withSampling = useSignal(false);
  const error = useSignal<unknown>(null);
  const saved = useSignal<string | null>(null);
  const exists = useSignal(false);
  const close = () => (presetOpen.value = false);
  const fixed = info.value?.capabilities.edits_presets === false;
  const save = async (overwrite: boolean) => {
    error.value = null;
    exists.value = false;
    const path = { name: name.value };
    try {
      if (!overwrite) {
        await findPresets();
        exists.value = presets.value.some((preset) => preset.name === name.value);
        if (exists.value) return;
      }
      const { maxTokens, temperature, seed } = sampling.value;
      const body = {
        steering: text.value,
        ...(system.value.trim() ? { system: system.value.trim() } : {}),
        ...(withSampling.value ? { defaults: { max_tokens: maxTokens, temperature, seed } } : {}),
      };
      const reply = unwrap(await api.PUT("/v1/presets/{name}", { params: { path }, body: body as never }));
      if (reply.usable) saved.value = reply.model;
      else error.value = new ApiError(reply.problem ?? "the preset cannot be used with this model", "change its steering", "unusable", 400);
      void Promise.all([refresh(), findPresets()]);
    } catch (problem) {
      error.value = problem;
    }
  };
  const needsKey = error.value instanceof ApiError && [401, 403].includes(error.value.status);
  return (
    <Dialog title="Save as preset" onClose={close}>
      {fixed ? (
        <p>The presets of this server cannot be edited here. Edit them where it is started.</p>
      ) : saved.value ? (
        <div class="stack">
          <p role="status">Saved. Any client of this server can use it as its model: <code>{saved.value}</code></p>
          <p><button type="button" class="go" onClick={close}>Done</button></p>
        </div>
      ) : (
        <form class="stack" onSubmit={(event) => { event.preventDefault(); void save(false); }}>
          <p>Steering: <code>{text.value}</code></p>
          <div class="field">
            <label for="preset-name">Name</label>
            <input id="preset-name" required pattern={NAME} maxLength={64} autocomplete="off" value={name.value} onInput={(event) => { name.value = event.currentTarget.value; exists.value = false; }} />
            <span class="hint">Letters, digits, dots, dashes and underscores</span>
          </div>
          <div class="field">
            <label for="preset-system">Opening of the system prompt, if it is to have one</label>
            <textarea id="preset-system" rows={2} value={system.value} onInput={(event) => (system.value = event.currentTarget.value)} />
          </div>
          <label class="check">
            <input type="checkbox" checked={withSampling.value} onChange={(event) => (withSampling.value = event.currentTarget.checked)} />
            With length, temperature and seed as they are now
          </label>
          {needsKey && (
            <div class="field">
              <label for="preset-key">Key that may manage the server; it is kept until you close the page</label>
              <input id="preset-key" type="password" autocomplete="off" value={key.value} onInput={(event) => (key.value = event.currentTarget.value)} />
            </div>
          )}
          {error.value !== null && <Problem error={error.value} />}
          {exists.value && (
            <div class="notice bad" role="alert">
              <p>There is a preset of this name. <button type="button" onClick={() => void save(true)}>Replace it</button></p>
            </div>
          )}
          <p class="row">
            <button class="go">Save</button>
            <button type="button" onClick={close}>Cancel</button>
          </p>
        </form>
      )}
    </Dialog>
  );
}
