import { expect, test } from 'vitest';
import type { z } from 'zod';
import { takeawayOrder } from '../../../examples/takeaway-order.ts';

const items = [
  { dish: 'Pad Thai', quantity: 3 },
  { dish: 'Spring rolls', quantity: 1 },
];

function order(input: z.input<typeof takeawayOrder.input>, signal = new AbortController().signal) {
  const reports: [number, string | undefined][] = [];
  const context = {
    input: takeawayOrder.input.parse(input),
    signal,
    progress: (percent: number, message?: string) => void reports.push([percent, message]),
    log: () => {},
    job: { id: 'job_01kahzxxbgfp2rk3v4c1m9x7qe', type: 'takeaway.order', accountId: 'default' },
    run: { id: 'run_01', number: 1 },
  };
  return { reports, ready: Promise.resolve(takeawayOrder.run?.(context)) };
}

test('the kitchen reports every step, in order, and says when the order is ready', async () => {
  const { reports, ready } = order({ customer: 'table 4', items, kitchen_ms: 20 });
  const output = takeawayOrder.output?.parse(await ready);
  expect(reports).toEqual([
    [0, 'order taken'],
    [5, 'chopping'],
    [25, 'cooking 3 × Pad Thai'],
    [70, 'cooking 1 × Spring rolls'],
    [85, 'plating'],
    [100, 'ready'],
  ]);
  expect(output).toMatchObject({
    order_number: 'X7QE',
    message: 'Order X7QE for table 4 is ready',
    items,
    portions: 4,
  });
  expect(output?.steps.map(({ step }) => step)).toEqual(reports.slice(0, -1).map(([, message]) => message));
});

test('the kitchen takes the time it was given', async () => {
  const output = takeawayOrder.output?.parse(await order({ items, kitchen_ms: 200 }).ready);
  // Node's timers may fire up to a millisecond early.
  expect(output?.total_ms).toBeGreaterThanOrEqual(195);
  expect(output?.message).toBe('Order X7QE is ready');
});

test('an abort stops the kitchen within the step', async () => {
  const controller = new AbortController();
  const reason = new Error('shutting down');
  const { reports, ready } = order({ items, kitchen_ms: 30_000 }, controller.signal);
  controller.abort(reason);
  await expect(ready).rejects.toMatchObject({ name: 'AbortError', cause: reason });
  expect(reports).toEqual([[0, 'order taken']]);
});

test.each([
  ['no items', { items: [] }, ['items']],
  ['no portions', { items: [{ dish: 'Pad Thai', quantity: 0 }] }, ['items', 0, 'quantity']],
  ['half a portion', { items: [{ dish: 'Pad Thai', quantity: 0.5 }] }, ['items', 0, 'quantity']],
  ['a nameless dish', { items: [{ dish: ' ', quantity: 1 }] }, ['items', 0, 'dish']],
  ['21 dishes', { items: Array.from({ length: 21 }, () => items[0]) }, ['items']],
  ['a kitchen that is too slow', { items, kitchen_ms: 30_001 }, ['kitchen_ms']],
  ['a field it does not know', { items, tip: 2 }, []],
])('refuses %s at submission', (_, input, path) => {
  expect(takeawayOrder.input.safeParse(input).error?.issues).toMatchObject([{ path }]);
});
