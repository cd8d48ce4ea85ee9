/** Times in the reader's own zone. The API counts microseconds since the Unix epoch. */

export const SECOND = 1_000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

const THIS_YEAR = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
const OTHER_YEAR = new Intl.DateTimeFormat(undefined, {
  day: 'numeric',
  month: 'short',
  year: 'numeric',
});

export const fullTime = new Intl.DateTimeFormat(undefined, {
  dateStyle: 'medium',
  timeStyle: 'long',
}).format;
export const clockTime = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' }).format;

export function milliseconds(us: bigint): number {
  return Number(us / 1000n);
}

/** `just now`, `5 min ago`, `3 h ago`, `2 d ago`; later the date. */
export function relativeTime(ms: number, now: number): string {
  const age = now - ms;
  // Clocks differ by some seconds.
  if (age < MINUTE && age > -MINUTE) return 'just now';
  if (age < 0) return date(ms, now);
  if (age < HOUR) return `${Math.floor(age / MINUTE)} min ago`;
  if (age < DAY) return `${Math.floor(age / HOUR)} h ago`;
  return age < 7 * DAY ? `${Math.floor(age / DAY)} d ago` : date(ms, now);
}

function date(ms: number, now: number): string {
  const isThisYear = new Date(ms).getFullYear() === new Date(now).getFullYear();
  return (isThisYear ? THIS_YEAR : OTHER_YEAR).format(ms);
}

/** The largest unit: `6 min`, `3 h`, `2 d`. */
export function wholeDuration(ms: number): string {
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)} min`;
  return ms < DAY ? `${Math.floor(ms / HOUR)} h` : `${Math.floor(ms / DAY)} d`;
}

/** The two largest units: `4.2 s`, `5 min 20 s`, `3 h 05 min`, `2 d 4 h`. */
export function duration(ms: number): string {
  if (ms < SECOND) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 10 * SECOND) return `${(ms / SECOND).toFixed(1)} s`;
  if (ms < MINUTE) return `${Math.floor(ms / SECOND)} s`;
  const pair = (large: number, largeUnit: string, small: number, smallUnit: string): string => {
    const rest = String(Math.floor((ms % large) / small)).padStart(2, '0');
    return `${Math.floor(ms / large)} ${largeUnit} ${rest} ${smallUnit}`;
  };
  if (ms < HOUR) return pair(MINUTE, 'min', SECOND, 's');
  return ms < DAY ? pair(HOUR, 'h', MINUTE, 'min') : pair(DAY, 'd', HOUR, 'h');
}
