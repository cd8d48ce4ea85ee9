import { expect, test } from 'vitest';

import { serverClock } from './server_clock.ts';

test('the time of the server follows its answers, whatever this machine shows', () => {
  expect(serverClock.at(5)).toBeUndefined();
  serverClock.note(null, 0);
  serverClock.note('nonsense', 0);
  expect(serverClock.at(5)).toBeUndefined();
  const noon = Date.UTC(2026, 10, 27, 12);
  // This machine is in another year.
  serverClock.note('Fri, 27 Nov 2026 12:00:00 GMT', 1_000);
  expect(serverClock.at(1_000)).toBe(noon + 500);
  expect(serverClock.at(61_000)).toBe(noon + 60_500);
  // The clock was corrected.
  serverClock.note('Fri, 27 Nov 2026 12:02:00 GMT', noon + 120_000);
  expect(serverClock.at(noon + 120_000)).toBe(noon + 120_500);
});
