import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';

import { SYSTEM_PREFIX } from '../format/context.ts';
import { RunSchema, SeriesInfoSchema, type Run } from '../gen/matyan/runs/v1/run_pb.ts';
import { usualName } from './project.ts';

function runOf(...names: string[]): Run {
  const series = names.map(name => create(SeriesInfoSchema, { name, context: '{}' }));
  return create(RunSchema, { series });
}

test('a new panel has the most important of the metrics that many runs have', () => {
  expect(usualName([])).toBeUndefined();
  expect(usualName([runOf(`${SYSTEM_PREFIX}cpu`), runOf()])).toBeUndefined();
  expect(usualName([runOf('gpu/power', 'lr'), runOf('gpu/power'), runOf('gpu/power')])).toBe('lr');
  const sweep = Array.from({ length: 4 }, () => runOf('train/loss', 'val/loss', 'lr'));
  expect(usualName([runOf('loss'), ...sweep])).toBe('val/loss');
  expect(usualName([runOf('loss'), runOf('loss', 'val/loss'), runOf('loss')])).toBe('loss');
});

test('a metric counts once for each run, whatever its contexts', () => {
  const twice = runOf('accuracy', 'accuracy', 'accuracy');
  expect(usualName([twice, runOf('speed'), runOf('speed'), runOf('speed')])).toBe('speed');
});
