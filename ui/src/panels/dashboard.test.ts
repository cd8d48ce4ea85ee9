import { expect, test } from 'vitest';

import { decodeMap } from '../api/cbor.ts';
import { encodeCbor } from '../api/cbor_writer.ts';
import { dashboardOf, dashboardState, filtered } from './dashboard.ts';
import { EMPTY_PANEL, NEW_PANEL } from './panels.ts';

test('a dashboard is kept, and read back', () => {
  const dashboard = { panels: [NEW_PANEL, { ...EMPTY_PANEL, width: 6 }], query: 'run.active' };
  const stored = decodeMap(encodeCbor(dashboardState(dashboard)));
  expect(dashboardOf(stored)).toEqual(dashboard);
  expect(dashboardOf(undefined)).toEqual({ panels: [], query: '' });
  expect(dashboardOf({ panels: 'none', query: 7 })).toEqual({ panels: [], query: '' });
});

test('the filter of a dashboard limits each panel', () => {
  const panel = { ...NEW_PANEL, query: 'run.hparams.lr < 1 or run.active' };
  expect(filtered(panel, '')).toBe(panel);
  expect(filtered({ ...NEW_PANEL, query: '' }, 'run.active').query).toBe('run.active');
  expect(filtered(panel, '"a" in run.tags').query).toBe(
    '"a" in run.tags and (run.hparams.lr < 1 or run.active)',
  );
  // Words are conditions, too.
  expect(filtered({ ...NEW_PANEL, query: 'run.active' }, 'falcon').query).toContain(
    ' and run.active',
  );
});
