import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';

import { RunSchema } from '../../gen/matyan/runs/v1/run_pb.ts';
import { emptyOf } from './contents.ts';

const nothing = { hasObjects: false, hasLines: false, hasRecords: false };
const metrics = (...names: string[]) => names.map(name => ({ name }));

test('tabs without anything in them are known', () => {
  const run = create(RunSchema, { series: metrics('loss'), seriesCount: 1 });
  expect(emptyOf(run, nothing)).toEqual([
    ...(['system', 'media', 'terminal', 'logs', 'artifacts', 'changes'] as const),
  ]);
  const artifacts = [{ path: 'git-diff.patch' }];
  const full = create(RunSchema, {
    ...{ series: metrics('loss', 'system/gpu.0.power'), seriesCount: 2, artifacts },
  });
  expect(emptyOf(full, { hasObjects: true, hasLines: true, hasRecords: true })).toEqual([]);
});

test('what was not read is no reason to leave out a tab', () => {
  const run = create(RunSchema, {
    ...{ series: metrics('a', 'b'), seriesCount: 400, artifacts: [{ path: 'model.pt' }] },
    moreArtifacts: true,
  });
  expect(emptyOf(run, nothing)).toEqual(['media', 'terminal', 'logs']);
});
