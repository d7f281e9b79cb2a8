import { createHash } from 'node:crypto';
import { jobJson } from '#jobs/read/job-view.ts';
import type { JobRecord } from '#jobs/wait/job-watch.ts';

/** A job as its bytes go out, and the strong entity tag of these bytes. */
export interface JobRepresentation {
  readonly body: string;
  readonly etag: string;
}

export type RenderJob = (job: JobRecord) => JobRepresentation;

/** Renders each record once: all who wait for a job are handed the same one. */
export function jobRenderer(publicUrl: string): RenderJob {
  const rendered = new WeakMap<JobRecord, JobRepresentation>();
  return function renderJob(job) {
    const known = rendered.get(job);
    if (known !== undefined) return known;
    const body = jobJson(job, publicUrl);
    const etag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 27)}"`;
    const representation = { body, etag };
    rendered.set(job, representation);
    return representation;
  };
}
