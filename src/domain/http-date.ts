const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const MONTH = `(?<month>${MONTHS.join('|')})`;
const TIME = String.raw`(?<time>\d{2}:\d{2}:\d{2})`;

/** The three forms of RFC 9110, 5.6.7: senders write the first, recipients must read them all. */
const FORMS: readonly RegExp[] = [
  // Sun, 06 Nov 1994 08:49:37 GMT
  new RegExp(String.raw`^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (?<day>\d{2}) ${MONTH} (?<year>\d{4}) ${TIME} GMT$`),
  // Sunday, 06-Nov-94 08:49:37 GMT
  new RegExp(
    String.raw`^(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?<day>\d{2})-${MONTH}-(?<year>\d{2}) ${TIME} GMT$`,
  ),
  // Sun Nov  6 08:49:37 1994
  new RegExp(String.raw`^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) ${MONTH} (?<day>\d{2}| \d) ${TIME} (?<year>\d{4})$`),
];

/** The moment that an HTTP date names; undefined when the text is none. `now` tells which century two digits are of. */
export function parseHttpDate(text: string, now: Date): Date | undefined {
  for (const form of FORMS) {
    const { year, month, day, time } = form.exec(text)?.groups ?? {};
    if (year === undefined) continue;
    return year.length === 2
      ? inItsCentury(Number(year), [month!, day!, time!], now)
      : momentOf(year, month!, day!, time!);
  }
  return undefined;
}

/** Two digits mean the year that is not more than 50 years ahead: to the moment, for the RFC speaks of the timestamp. */
function inItsCentury(digits: number, rest: readonly [string, string, string], now: Date): Date | undefined {
  const century = Math.floor(now.getUTCFullYear() / 100) * 100;
  const latest = new Date(now);
  latest.setUTCFullYear(now.getUTCFullYear() + 50);
  const candidates = [century + 100, century, century - 100].map((base) => momentOf(String(base + digits), ...rest));
  return candidates.find((at) => at !== undefined && at <= latest);
}

function momentOf(year: string, month: string, day: string, time: string): Date | undefined {
  const [hours, minutes, seconds] = time.split(':').map(Number) as [number, number, number];
  const date = new Date(0);
  date.setUTCFullYear(Number(year), MONTHS.indexOf(month), Number(day));
  // 60 is a leap second, which the grammar has and the clock has not.
  if (date.getUTCDate() !== Number(day) || hours > 23 || minutes > 59 || seconds > 60) return undefined;
  date.setUTCHours(hours, minutes, seconds);
  return date;
}
