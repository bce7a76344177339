import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { api, type Preset, unwrap } from "../api";
import { announce } from "../state/announce";
import { take } from "../state/dials";
import { findPresets, presets } from "../state/presets";
import { Problem } from "./notice";

/** The preset that was deleted last; it is written again as it was. */
const deleted = signal<Preset | null>(null);

export function Presets() {
  const [error, setError] = useState<unknown>(null);
  useEffect(() => void findPresets().catch(setError), []);
  const act = (work: Promise<unknown>) => {
    setError(null);
    work.then(findPresets).catch(setError);
  };
  const remove = async (preset: Preset) => {
    unwrap(await api.DELETE("/v1/presets/{name}", { params: { path: { name: preset.name } } }));
    deleted.value = preset;
    announce(`The preset ${preset.name} is deleted`);
  };
  const restore = async (preset: Preset) => {
    unwrap(await api.PUT("/v1/presets/{name}", { params: { path: { name: preset.name } }, body: preset.preset as never }));
    deleted.value = null;
    announce(`The preset ${preset.name} is restored`);
  };
  return (
    <section class="stack tight" aria-label="Presets">
      <h2>Presets</h2>
      <p class="hint">A steering with a name, which any client can choose as a model.</p>
      {deleted.value && (
        <p class="notice row">
          <span>The preset <strong>{deleted.value.name}</strong> is deleted.</span>
          {deleted.value.preset && <button type="button" onClick={() => act(restore(deleted.value!))}>Undo</button>}
        </p>
      )}
      {error !== null && <Problem error={error} />}
      <div class="scroll" tabIndex={0} role="region" aria-label="Table of presets">
        <table class="data">
          <thead>
            <tr>
              <th scope="col">Name</th>
              <th scope="col">Steering</th>
              <th scope="col">As a model</th>
              <th scope="col"><span class="vh">What to do</span></th>
            </tr>
          </thead>
          <tbody>
            {presets.value.map((preset) => (
              <tr key={preset.name}>
                <th scope="row">{preset.name}</th>
                <td>{preset.usable ? <Steers preset={preset} /> : <span class="warn">▲ Not usable: {preset.problem}</span>}</td>
                <td><code>{preset.model}</code></td>
                <td class="do">
                  {preset.usable && steeringOf(preset) && (
                    <button type="button" onClick={() => act(take(steeringOf(preset)!).then(() => (location.hash = "try")))}>Try<span class="vh"> {preset.name}</span></button>
                  )}
                  {!preset.shipped && <button type="button" onClick={() => act(remove(preset))}>Delete<span class="vh"> {preset.name}</span></button>}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function steeringOf(preset: Preset): string | null {
  const steering = preset.preset?.["steering"];
  return typeof steering === "string" ? steering : null;
}

/** What a preset steers with: its text form, for a flow nothing that could be said in advance. */
function Steers({ preset }: { readonly preset: Preset }) {
  const steering = steeringOf(preset);
  if (steering) return <code>{steering}</code>;
  return <span class="soft">{preset.preset?.["flow"] ? "by the stage of the conversation" : "not steered"}</span>;
}
