import { expect, test } from 'vitest';

import {
  choice,
  decode,
  encode,
  field,
  fillPath,
  flag,
  list,
  matchPath,
  number,
  text,
} from './url.ts';

const schema = {
  q: field(text, ''),
  size: field(number, 10),
  isLog: field(flag, false),
  axis: field(choice('step', 'time'), 'step'),
  columns: field(list, [] as string[]),
  from: field<number | undefined>(number, undefined),
};
const defaults = { q: '', size: 10, isLog: false, axis: 'step', columns: [], from: undefined };

test('a state survives the URL', () => {
  const check = (state: Parameters<typeof encode<typeof schema>>[1]): void =>
    expect(decode(schema, encode(schema, state))).toEqual({ ...defaults, ...state });
  check({});
  check({ q: 'run.name == "a&b=c#d ü"' });
  check({ size: -1.5e-7, isLog: true, axis: 'time' });
  check({ columns: ['a'] });
  check({ columns: ['a,b', 'c\\', '', 'd\\,e'] });
  check({ from: 0 });
});

test('fields with their default are left out', () => {
  expect(encode(schema, defaults as never)).toBe('');
  expect(encode(schema, { size: 11, q: '' })).toBe('?size=11');
});

test('unknown and invalid fields are dropped', () => {
  expect(decode(schema, '?size=abc&isLog=maybe&axis=z&other=1&from=&columns=a%5C')).toEqual(
    defaults,
  );
});

test('paths match by segments', () => {
  expect(matchPath('/runs', '/runs/')).toEqual({});
  expect(matchPath('/runs/:run', '/runs/a%2Fb')).toEqual({ run: 'a/b' });
  expect(matchPath('/runs/:run', '/runs')).toBeUndefined();
  expect(matchPath('/runs/:run', '/runs/a/b')).toBeUndefined();
  expect(matchPath('/runs/:run', '/runs/%')).toBeUndefined();
  expect(fillPath('/runs/:run', { run: 'a/b ü' })).toBe('/runs/a%2Fb%20%C3%BC');
});
