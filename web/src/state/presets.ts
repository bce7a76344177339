// Presets of the server: steerings with a name, which clients choose as a model.
import { signal } from "@preact/signals";
import { api, type Preset, unwrap } from "../api";

export const presets = signal<readonly Preset[]>([]);

export async function findPresets(): Promise<void> {
  presets.value = unwrap(await api.GET("/v1/presets")).data;
}
