import { createRoute, OpenAPIHono } from '@hono/zod-openapi';
import type { JobLists } from '#jobs/read/job-lists.ts';
import { jobJson } from '#jobs/read/job-view.ts';
import type { Env } from '../env.ts';
import { jsonText } from '../json-text.ts';
import { problem } from '../problem.ts';
import { json, problems } from '../schemas/common.ts';
import { jobListQuery, jobListSchema, metadataParameter } from '../schemas/job-list.ts';
import { onInvalid } from '../validation.ts';

export interface JobListRoutesDeps {
  readonly lists: JobLists;
  readonly publicUrl: string;
}

const description = `\
Newest first. A page may hold fewer jobs than \`limit\`, or none, though more follow: one request looks at a bounded number of \
jobs, so that it takes the same time however rare what it asks for. Only \`next_cursor: null\` ends the list.

With \`updated_after\`, in the order of changes: each job where its latest change is. A change is the submission, the first \
start, a retry and the end; progress, logs and the request to cancel are none. Following \`next_cursor\` meets every job that \
has changed, however many change meanwhile, and each once unless it changes again. Such a walk has no end and its \
\`next_cursor\` is never null: \`has_more: false\` says that it has caught up; keep the cursor, and ask with it again later.

A cursor goes with the filters of the page it came with. \`limit\` may change from page to page.`;

export function jobListRoutes({ lists, publicUrl }: JobListRoutesDeps) {
  const list = createRoute({
    method: 'get',
    path: '/v1/jobs',
    summary: 'List jobs, newest first or in the order of their changes',
    description,
    parameters: [metadataParameter],
    request: { query: jobListQuery },
    responses: { 200: json(jobListSchema, 'A page of jobs.'), ...problems(400) },
  });

  return new OpenAPIHono<Env>({ defaultHook: onInvalid }).openapi(list, async (c) => {
    const page = await lists.page(c.get('apiKey').accountId, c.req.valid('query'));
    if (!page.ok) return problem(c, page);
    const { items, nextCursor, hasMore } = page.value;
    const rest = JSON.stringify({ next_cursor: nextCursor, has_more: hasMore }).slice(1);
    return jsonText(c, `{"items":[${items.map((job) => jobJson(job, publicUrl)).join(',')}],${rest}`);
  });
}
