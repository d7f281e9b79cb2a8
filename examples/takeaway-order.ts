import { setTimeout as delay } from 'node:timers/promises';
import { defineJob, type JobContext } from 'ringback';
import { z } from 'zod';

/**
 * Asynchronous request-reply as everybody knows it: order a takeaway by phone, get an order number at once, then ask how
 * far it is or wait for the pager to buzz.
 */

const dish = z.string().trim().min(1).max(80);

const orderInput = z.strictObject({
  customer: z.string().trim().min(1).max(80).optional(),
  items: z
    .array(z.strictObject({ dish, quantity: z.int().min(1).max(20) }))
    .min(1)
    .max(20),
  /** How long the kitchen needs in all. */
  kitchen_ms: z.int().min(0).max(30_000).default(3_000),
});

const orderOutput = z.object({
  /** The end of the job's id: what is called out at the counter. Every run of the order keeps it. */
  order_number: z.string(),
  /** What the pager shows. */
  message: z.string(),
  items: z.array(z.object({ dish, quantity: z.int() })),
  portions: z.int(),
  /** What the kitchen did, and how long each step really took. */
  steps: z.array(z.object({ step: z.string(), ms: z.number() })),
  total_ms: z.number(),
});

type Order = z.output<typeof orderInput>;
type Step = { readonly step: string; readonly share: number };

export const takeawayOrder = defineJob({
  type: 'takeaway.order',
  description: 'Cooks a takeaway order step by step and says when it is ready to be picked up.',
  input: orderInput,
  output: orderOutput,
  run: async (context) => {
    const { input, job, progress } = context;
    const started = performance.now();
    const orderNumber = job.id.slice(-4).toUpperCase();
    const steps = await cook(context, kitchenSteps(input));
    progress(100, 'ready');
    return {
      order_number: orderNumber,
      message: `Order ${orderNumber}${input.customer ? ` for ${input.customer}` : ''} is ready`,
      items: input.items,
      portions: portions(input),
      steps,
      total_ms: round(performance.now() - started),
    };
  },
});

/** The shares add up to 1; a dish takes its share of the cooking by portions. */
function kitchenSteps(order: Order): Step[] {
  const all = portions(order);
  return [
    { step: 'order taken', share: 0.05 },
    { step: 'chopping', share: 0.2 },
    ...order.items.map(({ dish: name, quantity }) => ({
      step: `cooking ${quantity} × ${name}`,
      share: (0.6 * quantity) / all,
    })),
    { step: 'plating', share: 0.15 },
  ];
}

/** Stops at once when the signal aborts; a later run begins with the first step again, as nothing was handed out. */
async function cook({ input, signal, progress }: JobContext<Order>, steps: readonly Step[]) {
  const done: { step: string; ms: number }[] = [];
  let share = 0;
  for (const { step, share: part } of steps) {
    progress(Math.round(share * 100), step);
    const started = performance.now();
    await delay(input.kitchen_ms * part, undefined, { signal });
    done.push({ step, ms: round(performance.now() - started) });
    share += part;
  }
  return done;
}

function portions({ items }: Order): number {
  return items.reduce((sum, { quantity }) => sum + quantity, 0);
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10;
}
