import { serve } from '@hono/node-server';
import { Hono } from 'hono';

/** The yardstick: a Hono server that does nothing. Tells its parent its port. */
const app = new Hono();
app.get('/', (c) => c.body(null, 204));
serve({ fetch: app.fetch, hostname: '127.0.0.1', port: 0 }, ({ port }) => process.send!({ port }));
process.on('disconnect', () => process.exit(0));
