// What is done with vectors and presets as a whole: restoring what was deleted, the details of one vector.
import { signal } from "@preact/signals";
import { api, unwrap, type VectorDetails } from "../api";
import { announce } from "./announce";
import { refresh } from "./server";

/** The vector that was deleted last, and what restores it. */
export const deleted = signal<{ readonly name: string; readonly undo: string } | null>(null);

export async function deleteVector(name: string): Promise<void> {
  const { undo } = unwrap(await api.DELETE("/v1/vectors/{name}", { params: { path: { name } } }));
  deleted.value = { name, undo };
  announce(`${name} is deleted`);
  await refresh();
}

export async function restoreVector(): Promise<void> {
  if (!deleted.value) return;
  const { name, undo } = deleted.value;
  unwrap(await api.POST("/v1/vectors/{name}/restore", { params: { path: { name } }, body: { undo } }));
  deleted.value = null;
  announce(`${name} is restored`);
  await refresh();
}

export async function detailsOf(name: string): Promise<VectorDetails> {
  return unwrap(await api.GET("/v1/vectors/{name}", { params: { path: { name } } }));
}
