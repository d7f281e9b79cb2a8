/** What is queued is due later, ready to be claimed, or leased by whoever is at it. What is over is not in the queue. */
export const QUEUE_ITEM_STATES = ['delayed', 'ready', 'leased'] as const;

/** A delivery may also be `behind`: an earlier event of its job has yet to reach its endpoint, or to fail to. */
export const DELIVERY_QUEUE_STATES = ['behind', ...QUEUE_ITEM_STATES] as const;
