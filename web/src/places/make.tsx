// Make: from two poles, a file or a system prompt to a vector.
import { useEffect } from "preact/hooks";
import { JobPanel } from "../parts/job-panel";
import { MakeForm } from "../parts/make-form";
import { PairsPreview } from "../parts/pairs-preview";
import { Undo } from "../parts/undo";
import { dismissed, findJobs, jobs } from "../state/jobs";
import "./make.css";

const SHOWN = 6;

export function Make() {
  useEffect(() => void findJobs().catch(() => undefined), []);
  const making = jobs.value.filter((job) => (job.kind === "train" || job.kind === "distill") && !dismissed.value.includes(job.id));
  return (
    <main id="main" tabIndex={-1} class="page stack">
      <h1>Make</h1>
      <Undo />
      {making.length > 0 && (
        <section class="stack" aria-label="Vectors being made">
          {making.slice(0, SHOWN).map((job) => <JobPanel key={job.id} job={job} />)}
        </section>
      )}
      <div class="making">
        <MakeForm />
        <PairsPreview />
      </div>
    </main>
  );
}
