/** What a schedule does when its time has come and a job of it has not ended: submit all the same, or leave it out. */
export const OVERLAP_POLICIES = ['allow', 'skip'] as const;
export type OverlapPolicy = (typeof OVERLAP_POLICIES)[number];

/**
 * What becomes of times that passed while nobody was there to act on them: none of them is made up for, one job stands
 * for all of them, or each gets its job.
 */
export const MISFIRE_POLICIES = ['skip', 'fire_once', 'catch_up'] as const;
export type MisfirePolicy = (typeof MISFIRE_POLICIES)[number];

/** Why the last time of a schedule made no job, as clients see it. */
export interface ScheduleError {
  /** A problem code: that of the submission which was refused. */
  readonly code: string;
  readonly message: string;
  /** ISO 8601. */
  readonly scheduled_for: string;
}

/** A time is missed when it is more than this late. Keepers look once a second; a restart takes them a few. */
export const MISFIRE_GRACE_MS = 60_000;

/** Times that `catch_up` makes up for; a schedule of every minute would have 43,200 after a month. */
export const MOST_CAUGHT_UP = 100;

export interface Firing {
  /** Times that get a job now, earliest first. */
  readonly fire: readonly Date[];
  /** The first and the last of the missed times that get none, and that no other stands for. */
  readonly leftOut: { readonly first: Date; readonly last: Date } | null;
  /** The first time after now; null when there is none. */
  readonly next: Date | null;
}

/** The first time of a schedule after a moment. */
type Following = (after: Date) => Date | null;

/**
 * What to do about a schedule whose next time was `due`. Times that are on time fire whatever the policy says. Asks for some
 * 150 following times at most, however many were missed.
 */
export function planFiring(
  { due, misfire }: { readonly due: Date; readonly misfire: MisfirePolicy },
  now: Date,
  following: Following,
): Firing {
  const onTimeSince = new Date(now.getTime() - MISFIRE_GRACE_MS);
  const isMissed = due < onTimeSince;
  const onTime: Date[] = [];
  let next = isMissed ? firstFrom(onTimeSince, following) : due;
  for (; next !== null && next <= now; next = following(next)) onTime.push(next);
  if (!isMissed) return { fire: onTime, leftOut: null, next };
  const last = lastBefore(onTimeSince, due, following);
  switch (misfire) {
    case 'skip':
      return { fire: onTime, leftOut: { first: due, last }, next };
    case 'fire_once':
      // A time that is due anyway stands for those before it.
      return { fire: onTime.length > 0 ? onTime : [last], leftOut: null, next };
    case 'catch_up': {
      const { times, rest } = takeUntil(last, due, following);
      return { fire: [...times, ...onTime], leftOut: rest === null ? null : { first: rest, last }, next };
    }
    default:
      return misfire satisfies never;
  }
}

/** The times from `first` to `last`, so many as are caught up, and the first of those that are not. */
function takeUntil(last: Date, first: Date, following: Following): { times: Date[]; rest: Date | null } {
  const times: Date[] = [];
  let time: Date | null = first;
  for (; time !== null && time <= last && times.length < MOST_CAUGHT_UP; time = following(time)) times.push(time);
  return { times, rest: time !== null && time <= last ? time : null };
}

function firstFrom(moment: Date, following: Following): Date | null {
  return following(new Date(moment.getTime() - 1));
}

/** The last time before a moment, given an earlier one: by halving, for there may be half a million between. */
function lastBefore(moment: Date, earlier: Date, following: Following): Date {
  let last = earlier;
  // No time is in [until, moment).
  let until = moment.getTime();
  while (until - last.getTime() > 1) {
    const middle = new Date(Math.ceil((last.getTime() + until) / 2));
    const found = firstFrom(middle, following);
    if (found !== null && found.getTime() < until) last = found;
    else until = middle.getTime();
  }
  return last;
}
