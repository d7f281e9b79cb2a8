import type { AccountId, JobId } from '#domain/ids.ts';
import { type ChangeListener, Changes, type ChangesDeps, type ChangeTimes } from './changes.ts';

export type { ChangeListener, ChangeTimes };

export interface ChangedJob {
  readonly accountId: AccountId;
  readonly jobId: JobId;
}

/** Which jobs have changed, as who waits for them wants to know. */
export class JobChanges extends Changes {
  constructor(deps: ChangesDeps) {
    super('ringback_jobs', deps);
  }

  /** Call after the commit that changed the jobs. */
  publish(jobs: readonly ChangedJob[]): void {
    this.publishIds(jobs.map(({ jobId }) => jobId));
  }
}
