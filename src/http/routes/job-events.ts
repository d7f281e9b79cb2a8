import { createRoute, OpenAPIHono, z } from '@hono/zod-openapi';
import { accepts } from 'hono/accepts';
import { isFinal } from '#domain/job.ts';
import { type Result, refuse } from '#domain/problem.ts';
import type { JobEventRecord, JobEvents } from '#jobs/wait/job-events.ts';
import type { JobQueries } from '#jobs/read/job-queries.ts';
import type { JobRecord } from '#jobs/wait/job-watch.ts';
import type { Env } from '../env.ts';
import { renderEventStream, STREAM_HEADERS, STREAM_TYPE } from '../event-stream.ts';
import { momentOf } from '../feed-view.ts';
import type { RenderJob } from '../job-representation.ts';
import { problem } from '../problem.ts';
import { headerParameter, idSchema, problems } from '../schemas/common.ts';
import { jobEventSchema, streamedEventSchema } from '../schemas/event.ts';
import { streamBody } from '../stream-body.ts';
import { onInvalid } from '../validation.ts';

export interface JobEventRoutesDeps {
  readonly jobs: JobQueries;
  readonly events: JobEvents;
  readonly renderJob: RenderJob;
}

export function jobEventRoutes({ jobs, events, renderJob }: JobEventRoutesDeps) {
  const list = createRoute({
    method: 'get',
    path: '/v1/jobs/{id}/events',
    summary: 'What happened to a job, as a list or as it happens',
    description:
      'As JSON the events on record; as `text/event-stream`, when `Accept` prefers it, those and what is to come, until the ' +
      'job is over. `Last-Event-ID` goes on after that event. See docs/guides/wait-for-a-job.md.',
    parameters: [headerParameter('Last-Event-ID', 'The `id` of the last event that was seen.', '2')],
    request: {
      params: z.object({ id: idSchema('job') }),
      query: z.strictObject({
        last_event_id: z
          .string()
          .optional()
          .openapi({ description: 'For clients that cannot set the header, which wins.', example: '2' }),
      }),
    },
    responses: {
      200: {
        description: 'The events after the last one seen, in their order.',
        content: {
          'application/json': { schema: z.object({ items: z.array(jobEventSchema) }) },
          'text/event-stream': {
            schema: z.string().openapi({
              description:
                'Server-sent events. `id` is the sequence, `event` the type, `data` a StreamedEvent as JSON. Without an ' +
                '`id`, `job.progress` is not on record. A comment every 15 seconds shows that the stream is alive.',
            }),
          },
        },
      },
      204: { description: 'To a stream: the job is over, and its last event was seen. Do not connect again.' },
      ...problems(400, 404, 410),
    },
  });

  const app = new OpenAPIHono<Env>({ defaultHook: onInvalid });
  app.openAPIRegistry.register('StreamedEvent', streamedEventSchema);
  return app.openapi(list, async (c) => {
    const found = await jobs.find(c.get('apiKey').accountId, c.req.valid('param').id);
    if (!found.ok) return problem(c, found);
    const job = found.value;
    const given = c.req.header('last-event-id') ?? c.req.valid('query').last_event_id;
    const after = sequenceOf(given, job);
    if (!after.ok) return problem(c, after);
    c.header('vary', 'Accept');
    const type = accepts(c, { header: 'Accept', supports: [JSON_TYPE, STREAM_TYPE], default: JSON_TYPE });
    if (type === JSON_TYPE) {
      const items = (await events.list(job, after.value)).map(viewEvent);
      return c.json({ items }, 200, { 'cache-control': 'private, no-cache' });
    }
    if (isFinal(job.status) && after.value === job.sequence) return c.body(null, 204);
    const followed = renderEventStream(events.follow(job, after.value, c.req.raw.signal), renderJob);
    const body = streamBody(c, followed, () => undefined);
    return c.body(body, 200, STREAM_HEADERS);
  });
}

const JSON_TYPE = 'application/json';

/** The sequence that a client has seen last: 0 for none. */
function sequenceOf(lastEventId: string | undefined, { sequence }: JobRecord): Result<number> {
  if (lastEventId === undefined || lastEventId === '') return { ok: true, value: 0 };
  const value = /^\d{1,9}$/.test(lastEventId) ? Number(lastEventId) : Number.POSITIVE_INFINITY;
  if (value <= sequence) return { ok: true, value };
  const detail = `Last-Event-ID is the id of an event of this job, from 1 to ${sequence}; leave it out to start at the first.`;
  return refuse('invalid_last_event_id', detail);
}

function viewEvent({ id, type, sequence, createdAt }: JobEventRecord) {
  return { id, type, sequence, ...momentOf(createdAt) };
}
