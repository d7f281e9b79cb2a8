import { defineConfig } from 'ringback';
import { csvProfile } from './examples/csv-profile.ts';
import { takeawayOrder } from './examples/takeaway-order.ts';

/** The job types this installation offers. Replace the examples by your own. */
export default defineConfig({ jobs: [takeawayOrder, csvProfile] });
