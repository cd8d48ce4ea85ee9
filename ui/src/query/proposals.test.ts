import { expect, test } from 'vitest';

import { placeAt } from './place.ts';
import { complete, literal, paramText, type Project } from './proposals.ts';

/** A project of two params and two metrics. */
const project: Project = {
  columns: text => {
    const words = text.toLowerCase().split(' ');
    const has = (name: string): boolean => words.every(word => name.toLowerCase().includes(word));
    const params = [['hparams', 'lr'], ['hparams', 'model', 'layers'], ['learning rate']];
    const metrics = [
      { name: 'loss', context: '{"subset":"val"}' },
      { name: 'accuracy', context: '{}' },
    ];
    return Promise.resolve({
      params: params.filter(path => has(path.join('.'))),
      metrics: metrics.filter(({ name, context }) => has(name + context)),
      found: [{ name: 'accuracy' }].filter(({ name }) => has(name)),
    });
  },
  values: path => Promise.resolve(path.at(-1) === 'optimizer' ? ['sgd', 'adam', 8, true] : []),
  names: kind => Promise.resolve(kind === 'tags' ? ['best', 'needs "review"'] : ['baseline']),
};

/** The first proposals at the bar, as they would change the query. */
async function proposed(query: string, count = 3, subject = 'metric'): Promise<string[]> {
  const caret = query.indexOf('|');
  const text = query.replace('|', '');
  const found = await complete(text, caret, project, subject);
  return (found?.proposals ?? [])
    .slice(0, count)
    .map(one => text.slice(0, found!.from) + one.text + text.slice(found!.to));
}

test('names are completed from words, properties, params and metrics', async () => {
  expect(await proposed('|')).toEqual(['run', 'metric']);
  expect(await proposed('ru|')).toEqual(['run']);
  expect(await proposed('lr|')).toEqual(['run.hparams.lr']);
  expect(await proposed('run.active and los|')).toEqual([
    'run.active and run.metrics["loss", {"subset": "val"}].last',
  ]);
  expect(await proposed('(learn|')).toEqual(['(run["learning rate"]']);
  expect(await proposed('dura|')).toEqual(['run.duration']);
});

test('members are completed level by level', async () => {
  expect(await proposed('run.na|')).toEqual(['run.name']);
  expect(await proposed('run.hp|')).toEqual(['run.hparams']);
  expect(await proposed('run.hparams.|')).toEqual(['run.hparams.lr', 'run.hparams.model']);
  expect(await proposed('run.hparams.model.la| > 3')).toEqual(['run.hparams.model.layers > 3']);
  expect(await proposed('run.metrics["loss"].l|')).toEqual([
    'run.metrics["loss"].last',
    'run.metrics["loss"].last_step',
  ]);
  expect(await proposed('metric.con|')).toEqual(['metric.context']);
  expect(await proposed('run.hparams.lr|')).toEqual([]);
});

test('texts are completed by what they are compared with', async () => {
  expect(await proposed('run.hparams.optimizer == "a|"')).toEqual(['run.hparams.optimizer == "adam"']);
  expect(await proposed('run.hparams.optimizer != |')).toEqual([
    'run.hparams.optimizer != "sgd"',
    'run.hparams.optimizer != "adam"',
    'run.hparams.optimizer != 8',
  ]);
  expect(await proposed('run.hparams.optimizer in ("sgd", "ad|')).toEqual([
    'run.hparams.optimizer in ("sgd", "adam"',
  ]);
  expect(await proposed("run.experiment == 'b|")).toEqual(['run.experiment == "baseline"']);
  expect(await proposed('metric.name == "ac|')).toEqual(['metric.name == "accuracy"']);
  expect(await proposed('run.metrics["lo|')).toEqual(['run.metrics["loss", {"subset": "val"}]']);
  expect(await proposed('run.metrics["lo|"].last < 1')).toEqual([
    'run.metrics["loss", {"subset": "val"}].last < 1',
  ]);
  expect(await proposed('run.active and "b|')).toEqual(['run.active and "best"']);
  expect(await proposed('"rev|')).toEqual([String.raw`"needs \"review\""`]);
  expect(await proposed('run.outcome == "f|')).toEqual([
    'run.outcome == "finished"',
    'run.outcome == "failed"',
  ]);
  expect(await proposed('run.active == |')).toEqual(['run.active == True', 'run.active == False']);
});

test('what is searched has names too', async () => {
  expect(await proposed('|', 3, 'images')).toEqual(['run', 'images']);
  expect(await proposed('images.na|', 3, 'images')).toEqual(['images.name']);
  expect(await proposed('images.name == "ac|', 3, 'images')).toEqual(['images.name == "accuracy"']);
});

test('nothing is completed where nothing fits', () => {
  for (const text of ['run.name # a comment "x', 'run.hparams.lr < 0.0', 'run.name == "x" ', 'f("x")(a"'])
    expect(placeAt(text, text.length)).toBeUndefined();
});

test('params and values are written as the language wants them', () => {
  expect(paramText(['a b', 'c', 'in', 'x'])).toBe('["a b"].c["in"].x');
  expect(paramText(['name', 'items', '_hidden'])).toBe('["name"]["items"]["_hidden"]');
  expect(literal({ a: [1, null, true, 2n ** 70n], 'b"': 'c' })).toBe(
    String.raw`{"a": [1, None, True, 1180591620717411303424], "b\"": "c"}`,
  );
  expect(literal(NaN)).toBeUndefined();
});
