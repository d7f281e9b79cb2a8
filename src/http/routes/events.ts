import { createRoute, OpenAPIHono, z } from '@hono/zod-openapi';
import { accepts } from 'hono/accepts';
import type { EventFeed } from '#jobs/feed/event-feed.ts';
import type { Env } from '../env.ts';
import { renderFeedStream, STREAM_HEADERS, STREAM_TYPE } from '../event-stream.ts';
import { renderFeedEvent } from '../feed-view.ts';
import { jsonText } from '../json-text.ts';
import { problem } from '../problem.ts';
import { headerParameter, problems } from '../schemas/common.ts';
import { feedPageSchema, feedQuery } from '../schemas/event.ts';
import { streamBody } from '../stream-body.ts';
import { onInvalid } from '../validation.ts';

export interface FeedRoutesDeps {
  readonly feed: EventFeed;
}

const description = `\
Oldest first, in an order that is settled: following \`next_cursor\` meets every event once and misses none, whichever \
transaction commits first. The feed has no end: \`next_cursor\` is never null, and \`has_more: false\` says that you have \
caught up. A page may hold fewer events than \`limit\`, or none, though more follow. A cursor goes with the account and the \
filters that it came with.

As \`text/event-stream\`, when \`Accept\` prefers it, the same and what is to come. Each event carries a cursor as its \`id\`, \
which \`Last-Event-ID\` or \`cursor\` goes on from. See docs/guides/event-feed.md.`;

export function feedRoutes({ feed }: FeedRoutesDeps) {
  const list = createRoute({
    method: 'get',
    path: '/v1/events',
    summary: 'What happened in the account, as a list or as it happens',
    description,
    parameters: [headerParameter('Last-Event-ID', 'The `id` that a stream sent last. It wins over `cursor`.')],
    request: { query: feedQuery },
    responses: {
      200: {
        description: 'The events after the cursor, in the order of the feed.',
        content: {
          'application/json': { schema: feedPageSchema },
          [STREAM_TYPE]: {
            schema: z.string().openapi({
              description:
                'Server-sent events. `id` is a cursor, `event` the type, `data` a FeedEvent as JSON. At least every 15 seconds ' +
                'something is sent: an `id` without `data`, which is no event, when there is none.',
            }),
          },
        },
      },
      ...problems(400),
    },
  });

  return new OpenAPIHono<Env>({ defaultHook: onInvalid }).openapi(list, async (c) => {
    const { accountId } = c.get('apiKey');
    const { type: types, job_id: jobId, created_after: createdAfter, limit, cursor } = c.req.valid('query');
    const lastEventId = c.req.header('last-event-id') || undefined;
    const query = { filter: { types, jobId }, createdAfter, cursor, lastEventId };
    c.header('vary', 'Accept');
    const type = accepts(c, {
      header: 'Accept',
      supports: ['application/json', STREAM_TYPE],
      default: 'application/json',
    });
    if (type === STREAM_TYPE) {
      const followed = await feed.follow(accountId, query, c.req.raw.signal);
      if (!followed.ok) return problem(c, followed);
      return c.body(
        streamBody(c, renderFeedStream(followed.value), () => undefined),
        200,
        STREAM_HEADERS,
      );
    }
    const page = await feed.page(accountId, { ...query, limit });
    if (!page.ok) return problem(c, page);
    const { items, nextCursor, hasMore } = page.value;
    c.header('cache-control', 'private, no-cache');
    const rest = JSON.stringify({ next_cursor: nextCursor, has_more: hasMore }).slice(1);
    return jsonText(c, `{"items":[${items.map(renderFeedEvent).join(',')}],${rest}`);
  });
}
