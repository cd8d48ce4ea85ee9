/** Runs per day in columns of weeks, like a calendar. */
import type { ActivityCount } from '../../gen/matyan/common/v1/common_pb.ts';

export interface ActivityDay {
  title: string;
  month: string;
  runs: number;
}

const DAY_S = 86_400;
const WEEKS = 52;
/** 1970 started on a Thursday; weeks start on Monday. */
const FIRST_WEEKDAY = 3;
const TITLE = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeZone: 'UTC' });
const MONTH = new Intl.DateTimeFormat(undefined, { month: 'short', timeZone: 'UTC' });

/** The counts are in local time, written as if it were UTC, and so are the days. */
export function dayColumns(
  hours: readonly Pick<ActivityCount, 'localS' | 'runs'>[],
  nowMs: number,
  offsetMin = new Date(nowMs).getTimezoneOffset(),
): ActivityDay[][] {
  const counts = new Map<number, number>();
  for (const { localS, runs } of hours) {
    const day = Math.floor(Number(localS) / DAY_S);
    counts.set(day, (counts.get(day) ?? 0) + runs);
  }
  const today = Math.floor((nowMs / 1000 - offsetMin * 60) / DAY_S);
  const monday = today - ((today + FIRST_WEEKDAY) % 7);
  return Array.from({ length: WEEKS }, (_, week) => {
    const first = monday - 7 * (WEEKS - 1 - week);
    const days = Array.from({ length: Math.min(7, today - first + 1) }, (_, at) => first + at);
    return days.map(day => {
      const ms = day * DAY_S * 1000;
      return { title: TITLE.format(ms), month: MONTH.format(ms), runs: counts.get(day) ?? 0 };
    });
  });
}
