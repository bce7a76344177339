// Long work on the server. A job goes on when the page is closed, and is found again when it is opened.
import { signal } from "@preact/signals";
import { api, ApiError, events, type Job, unwrap } from "../api";
import { refresh } from "./server";

export interface Finding {
  readonly [field: string]: unknown;
}

/** A job with the findings that its events brought. */
export interface Followed {
  readonly job: Job;
  readonly findings: readonly Finding[];
}

export const jobs = signal<readonly Followed[]>([]);

/** Follow the jobs that the server has, and those that begin. */
export async function findJobs(): Promise<void> {
  for (const job of unwrap(await api.GET("/v1/jobs")).data) follow(job);
}

/** Begin a job; its fields are those of `POST /v1/jobs`. */
export async function begin(fields: NonNullable<Parameters<typeof create>[0]>): Promise<Job> {
  const job = await create(fields);
  follow(job);
  return job;
}

async function create(fields: import("../api.gen").paths["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]) {
  return unwrap(await api.POST("/v1/jobs", { body: fields }));
}

export async function halt(id: string): Promise<void> {
  unwrap(await api.DELETE("/v1/jobs/{job_id}", { params: { path: { job_id: id } } }));
}

export async function resume(id: string): Promise<void> {
  follow(unwrap(await api.POST("/v1/jobs/{job_id}/resume", { params: { path: { job_id: id } } })));
}

const following = new Set<string>();

function follow(job: Job): void {
  put({ job, findings: jobs.value.find((each) => each.job.id === job.id)?.findings ?? [] });
  if (!following.has(job.id)) void listen(job.id);
}

async function listen(id: string): Promise<void> {
  following.add(id);
  let last = "";
  for (let tries = 0; ; tries++) {
    try {
      const headers: Record<string, string> = last ? { "last-event-id": last } : {};
      for await (const event of events(`/v1/jobs/${id}/events`, { headers, signal: new AbortController().signal })) {
        tries = 0;
        last = event.id ?? last;
        if (event.name === "finding") note(id, JSON.parse(event.data) as Finding);
        else await reread(id);
      }
      break; // events end with the job
    } catch (error) {
      if (!(error instanceof ApiError) || error.status === 404) break;
      await new Promise((resolve) => setTimeout(resolve, Math.min(500 * 2 ** tries, 10_000)));
    }
  }
  following.delete(id);
  await reread(id);
  await refresh();
}

async function reread(id: string): Promise<void> {
  const job = unwrap(await api.GET("/v1/jobs/{job_id}", { params: { path: { job_id: id } } }));
  put({ job, findings: jobs.value.find((each) => each.job.id === id)?.findings ?? [] });
}

function note(id: string, finding: Finding): void {
  jobs.value = jobs.value.map((each) => (each.job.id === id ? { ...each, findings: [...each.findings, finding] } : each));
}

function put(followed: Followed): void {
  const others = jobs.value.filter((each) => each.job.id !== followed.job.id);
  jobs.value = [followed, ...others].sort((a, b) => b.job.created - a.job.created);
}
