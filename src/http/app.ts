import { OpenAPIHono } from '@hono/zod-openapi';
import { methodNotAllowed } from 'hono/method-not-allowed';
import type { ApiKeys } from '#accounts/api-keys.ts';
import { refuse } from '#domain/problem.ts';
import type { JobTypes } from '#jobs/type/job-types.ts';
import type { Logger } from '#log.ts';
import type { Env } from './env.ts';
import { authenticate } from './middleware/authenticate.ts';
import { logRequests } from './middleware/log-requests.ts';
import { utf8Query } from './middleware/utf8-query.ts';
import { jobRenderer } from './job-representation.ts';
import { openApiDocument } from './openapi.ts';
import { onError, problem } from './problem.ts';
import { type DeliveryRoutesDeps, deliveryRoutes } from './routes/deliveries.ts';
import { type EndpointRoutesDeps, endpointRoutes } from './routes/endpoints.ts';
import { type CompletionRoutesDeps, completionRoutes } from './routes/completions.ts';
import { feedRoutes, type FeedRoutesDeps } from './routes/events.ts';
import { type JobListRoutesDeps, jobListRoutes } from './routes/job-lists.ts';
import { type JobRoutesDeps, jobRoutes } from './routes/jobs.ts';
import { jobEventRoutes, type JobEventRoutesDeps } from './routes/job-events.ts';
import { jobStatusRoutes, type JobStatusRoutesDeps } from './routes/job-status.ts';
import { type LogRoutesDeps, logRoutes } from './routes/logs.ts';
import { resultRoutes } from './routes/results.ts';
import { keySetRoutes, type SecretRoutesDeps, secretRoutes } from './routes/secrets.ts';
import { type SubmissionRoutesDeps, submissionRoutes } from './routes/submissions.ts';
import { type ScheduleRoutesDeps, scheduleRoutes } from './routes/schedules.ts';
import { healthRoutes, jobTypeRoutes } from './routes/service.ts';
import { type ClaimRoutesDeps, claimRoutes } from './routes/worker-claims.ts';
import { type RunRoutesDeps, runRoutes } from './routes/worker-runs.ts';

type JobDeps = JobRoutesDeps & JobListRoutesDeps & JobStatusRoutesDeps & JobEventRoutesDeps & SubmissionRoutesDeps;
type WorkerDeps = ClaimRoutesDeps & RunRoutesDeps & CompletionRoutesDeps;

type CallbackDeps = EndpointRoutesDeps &
  SecretRoutesDeps &
  Pick<DeliveryRoutesDeps, 'deliveryLists' | 'redelivery'> &
  FeedRoutesDeps;

export interface AppDeps
  extends Omit<JobDeps, 'renderJob'>, WorkerDeps, ScheduleRoutesDeps, LogRoutesDeps, CallbackDeps {
  readonly keys: ApiKeys;
  readonly types: JobTypes;
  readonly log: Logger;
  readonly version: string;
  readonly isReady: () => Promise<boolean>;
}

/** The HTTP API. Every response that is an error is problem+json. */
export function createApp(deps: AppDeps) {
  const app = new OpenAPIHono<Env>();
  app.onError(onError(deps.log, deps.judge));
  app.notFound((c) => problem(c, refuse('route_not_found', `There is no route ${c.req.path}. See /openapi.json.`)));
  app.use(logRequests(deps.log));
  app.use(
    methodNotAllowed({
      app,
      onMethodNotAllowed: (c, allowed) => {
        const allow = allowed.join(', ');
        const detail = `${c.req.path} does not support ${c.req.method}, only ${allow}.`;
        return problem(c, refuse('method_not_allowed', detail), { allow });
      },
    }),
  );
  app.route('/', healthRoutes(deps.isReady));
  app.route('/', completionRoutes(deps));
  app.route('/', keySetRoutes(deps));
  app.use('/v1/*', authenticate(deps.keys, deps.judge));
  app.use('/v1/*', utf8Query);
  const renderJob = jobRenderer(deps.publicUrl);
  app.route('/', submissionRoutes({ ...deps, renderJob }));
  app.route('/', jobListRoutes(deps));
  app.route('/', jobRoutes(deps));
  app.route('/', jobStatusRoutes({ ...deps, renderJob }));
  app.route('/', jobEventRoutes({ ...deps, renderJob }));
  app.route('/', feedRoutes(deps));
  app.route('/', scheduleRoutes(deps));
  app.route('/', resultRoutes(deps));
  app.route('/', logRoutes(deps));
  app.route('/', endpointRoutes(deps));
  app.route('/', secretRoutes(deps));
  app.route('/', deliveryRoutes(deps));
  app.route('/', jobTypeRoutes(deps.types));
  app.route('/', claimRoutes(deps));
  app.route('/', runRoutes(deps));
  let document: string | undefined;
  app.get('/openapi.json', (c) => {
    document ??= JSON.stringify(openApiDocument(app, deps));
    return c.body(document, 200, { 'content-type': 'application/json' });
  });
  return app;
}
