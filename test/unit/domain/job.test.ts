import { ENDPOINT_EVENT_TYPES } from '#domain/endpoint-event.ts';
import { SUBSCRIBABLE_EVENT_TYPES } from '#domain/endpoint-policy.ts';
import { expect, test } from 'vitest';
import {
  CALLBACK_EVENT_TYPES,
  ENDED_RUN_STATUSES,
  FINAL_JOB_EVENT_TYPES,
  FINAL_JOB_STATUSES,
  isFinal,
  JOB_EVENT_TYPES,
  JOB_STATUSES,
  JOB_TRANSITIONS,
  type JobStatus,
  RUN_STATUSES,
} from '#domain/job.ts';
import { wordsOfCheck } from './check-constraints.ts';

function reachableFrom(start: JobStatus): Set<JobStatus> {
  const seen = new Set<JobStatus>([start]);
  for (const status of seen) for (const next of JOB_TRANSITIONS[status]) seen.add(next);
  return seen;
}

test('every job status has its row in the transition table, and the table leads to no other', () => {
  expect(Object.keys(JOB_TRANSITIONS).toSorted()).toEqual([...JOB_STATUSES].toSorted());
  const targets = Object.values(JOB_TRANSITIONS).flat();
  expect(targets.filter((status) => !JOB_STATUSES.includes(status))).toEqual([]);
});

test('every job status can be reached from queued', () => {
  expect([...reachableFrom('queued')].toSorted()).toEqual([...JOB_STATUSES].toSorted());
});

test.each(FINAL_JOB_STATUSES)('nothing follows %s', (status) => {
  expect([...reachableFrom(status)]).toEqual([status]);
  expect(isFinal(status)).toBe(true);
});

test.each(['queued', 'in_progress'] as const)('%s can still end', (status) => {
  expect(isFinal(status)).toBe(false);
  expect([...reachableFrom(status)].filter((next) => isFinal(next))).not.toEqual([]);
});

test('the final statuses are exactly those that nothing follows', () => {
  expect(JOB_STATUSES.filter((status) => isFinal(status))).toEqual([...FINAL_JOB_STATUSES]);
});

test('a job that has started never goes back to queued', () => {
  expect(reachableFrom('in_progress')).not.toContain('queued');
});

test('each final status has its event, after those of a job that is queued, started, going on and tried again', () => {
  expect(FINAL_JOB_EVENT_TYPES).toEqual(FINAL_JOB_STATUSES.map((status) => `job.${status}`));
  const before = ['job.queued', 'job.started', 'job.progress'];
  expect(CALLBACK_EVENT_TYPES).toEqual([...before, ...FINAL_JOB_EVENT_TYPES]);
  expect(JOB_EVENT_TYPES).toEqual([...CALLBACK_EVENT_TYPES, 'job.retrying']);
});

test.each([
  ['jobs_status', JOB_STATUSES],
  ['jobs_finished', FINAL_JOB_STATUSES],
  ['job_runs_status', ENDED_RUN_STATUSES],
  ['events_type', [...JOB_EVENT_TYPES, ...ENDPOINT_EVENT_TYPES]],
  ['deliveries_event_type', SUBSCRIBABLE_EVENT_TYPES],
])('the CHECK %s of the database has the same words', (constraint, words) => {
  expect(wordsOfCheck(constraint)).toEqual([...words]);
});

test('a run is in progress or has ended', () => {
  expect(RUN_STATUSES).toEqual(['in_progress', ...ENDED_RUN_STATUSES]);
});
