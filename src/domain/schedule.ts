/** What a schedule does when its time has come and its last job has not ended: submit all the same, or leave it out. */
export const OVERLAP_POLICIES = ['allow', 'skip'] as const;
export type OverlapPolicy = (typeof OVERLAP_POLICIES)[number];

/**
 * What becomes of times that passed while nobody was there to act on them: none of them is made up for, one job stands
 * for all of them, or each gets its job.
 */
export const MISFIRE_POLICIES = ['skip', 'fire_once', 'catch_up'] as const;
export type MisfirePolicy = (typeof MISFIRE_POLICIES)[number];
