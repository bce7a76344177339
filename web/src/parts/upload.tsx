import { useState } from "preact/hooks";
import { ApiError, upload } from "../api";
import { announce } from "../state/announce";
import { info, refresh } from "../state/server";
import { Problem } from "./notice";

/** Upload of a vector's file, with its progress. */
export function Upload() {
  const [chosen, setChosen] = useState<File | null>(null);
  const [name, setName] = useState("");
  const [share, setShare] = useState<number | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [done, setDone] = useState("");
  const most = info.value?.limits.vector_bytes ?? Infinity;

  const choose = (file: File | undefined) => {
    setChosen(file ?? null);
    setError(null);
    setDone("");
    if (file) setName(file.name.replace(/\.safetensors$/i, "").replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(0, 64));
    if (file && file.size > most) setError(new ApiError(`the file has ${file.size} bytes, and vectors of this model at most ${most}`, "choose a vector file of this model", "too_large", 413));
  };
  const send = async (overwrite: boolean) => {
    if (!chosen) return;
    setError(null);
    setShare(0);
    try {
      await upload(`/v1/vectors/${encodeURIComponent(name)}${overwrite ? "?overwrite=true" : ""}`, chosen, setShare);
      setDone(name);
      announce(`${name} is uploaded`);
      setChosen(null);
      await refresh();
    } catch (problem) {
      setError(problem);
    } finally {
      setShare(null);
    }
  };
  const exists = error instanceof ApiError && error.code === "exists";
  return (
    <form class="card stack tight" aria-label="Upload a vector" onSubmit={(event) => { event.preventDefault(); void send(false); }}>
      <h2>Upload a vector</h2>
      <div class="row">
        <label class="field">
          <span class="label">File (.safetensors)</span>
          <input type="file" accept=".safetensors" onChange={(event) => choose(event.currentTarget.files?.[0])} />
        </label>
        <label class="field">
          <span class="label">Name</span>
          <input value={name} required maxLength={64} pattern="[A-Za-z0-9][A-Za-z0-9._\-]*" title="Letters, digits, '.', '_' and '-'" autocomplete="off" onInput={(event) => setName(event.currentTarget.value)} />
        </label>
        <button class="go" disabled={!chosen || !name || share !== null || chosen.size > most}>Upload</button>
      </div>
      {share !== null && <progress aria-label="Uploaded" max={1} value={share} />}
      {done && <p>{done} is uploaded, and is served at once.</p>}
      {error !== null && <Problem error={error}>{exists && <button type="button" onClick={() => void send(true)}>Replace it</button>}</Problem>}
    </form>
  );
}
