/** What is queued is due later, ready to be claimed, or leased by whoever is at it. What is over is not in the queue. */
export const QUEUE_ITEM_STATES = ['delayed', 'ready', 'leased'] as const;
