// Long work on the server. A job goes on when the page is closed, and is found again when it is opened.
import { signal } from "@preact/signals";
import { api, ApiError, events, type Finding, type Job, unwrap } from "../api";
import type { paths } from "../api.gen";
import { announce } from "./announce";
import { kept } from "./kept";
import { refresh } from "./server";

type JobFields = paths["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"];

const WAITING_MS = 2_000; // between two looks at a job that waits for others

/** The server's jobs, the newest first; those that have ended come without results until they are read. */
export const jobs = signal<readonly Job[]>([]);

/** Jobs that need not be shown any more, by id. */
export const dismissed = kept<readonly string[]>("dismissed", [], isNames);

export function dismiss(id: string): void {
  dismissed.value = [...dismissed.value.slice(-200), id];
}

/** Return the name of the vector that a job is about. */
export function nameOf(job: Job): string {
  return "name" in job.fields ? job.fields.name : job.fields.vector;
}

export function hasEnded(job: Job): boolean {
  return job.status !== "queued" && job.status !== "running";
}

/** Find the jobs that the server has, and follow those that have not ended. */
export async function findJobs(): Promise<void> {
  const list = unwrap(await api.GET("/v1/jobs")).data;
  jobs.value = list;
  for (const job of list) if (!hasEnded(job)) follow(job);
}

/** Begin a job. */
export async function begin(fields: JobFields): Promise<Job> {
  const job = unwrap(await api.POST("/v1/jobs", { body: fields }));
  follow(job);
  return job;
}

/** Train a behaviour of the zoo for this model, and show how it goes. */
export async function trainBehaviour(name: string): Promise<void> {
  await begin({ kind: "train", name, behaviour: name, effort: "default", seed: 0, overwrite: false });
  location.hash = "make";
}

export async function halt(id: string): Promise<void> {
  put(unwrap(await api.DELETE("/v1/jobs/{job_id}", { params: { path: { job_id: id } } })));
}

export async function resume(id: string): Promise<void> {
  follow(unwrap(await api.POST("/v1/jobs/{job_id}/resume", { params: { path: { job_id: id } } })));
}

/** Read a job with its findings and its result. */
export async function reread(id: string): Promise<Job> {
  const job = unwrap(await api.GET("/v1/jobs/{job_id}", { params: { path: { job_id: id } } }));
  put(job);
  return job;
}

const following = new Set<string>();

function follow(job: Job): void {
  put(job);
  if (following.has(job.id)) return;
  following.add(job.id);
  void listen(job.id).finally(() => following.delete(job.id));
}

/** Follow one job to its end. Only what runs has a stream: a browser opens few connections to one server. */
async function listen(id: string): Promise<void> {
  let last = "";
  for (let tries = 0; ; ) {
    try {
      let job = await reread(id);
      tries = 0;
      if (hasEnded(job)) break;
      if (job.status === "queued") {
        await pause(WAITING_MS);
        continue;
      }
      const headers: Record<string, string> = last ? { "last-event-id": last } : {};
      for await (const event of events(`/v1/jobs/${id}/events`, { headers, signal: new AbortController().signal })) {
        last = event.id ?? last;
        if (stale(event.name)) job = await reread(id);
        if (hasEnded(job)) break;
      }
    } catch (error) {
      if (!(error instanceof ApiError) || error.status === 404) return;
      await pause(Math.min(500 * 2 ** tries++, 10_000));
    }
  }
  const job = jobs.value.find((each) => each.id === id);
  if (job && job.kind !== "sweep") announce(`${nameOf(job)}: ${ENDS[job.status] ?? job.status}`);
  await refresh();
}

const ENDS: Partial<Record<Job["status"], string>> = { done: "ready", stopped: "stopped", failed: "failed" };

let readAt = 0;

/** Whether an event is worth another look at its job: old events arrive by the hundred, all at once. */
function stale(event: string | undefined): boolean {
  const now = performance.now();
  if (event === "progress" && now - readAt < 200) return false;
  readAt = now;
  return true;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function put(job: Job): void {
  const others = jobs.value.filter((each) => each.id !== job.id);
  jobs.value = [job, ...others].sort((a, b) => b.created - a.created);
}

/** Return the findings of one kind. */
export function findingsOf<Kind extends Finding["kind"]>(job: Job, kind: Kind): Extract<Finding, { kind: Kind }>[] {
  return (job.findings ?? []).filter((each): each is Extract<Finding, { kind: Kind }> => each.kind === kind);
}

function isNames(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((each) => typeof each === "string");
}
