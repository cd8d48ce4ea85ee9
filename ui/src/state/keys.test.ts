import { expect, test } from 'vitest';

import { handleKey, keyboard, keyCaps, matching, nameOf } from './keys.svelte.ts';

function press(key: string, now: number, target: object = {}): boolean {
  let isPrevented = false;
  const event = { key, target, preventDefault: () => (isPrevented = true) };
  handleKey(event as unknown as KeyboardEvent, now);
  return isPrevented;
}

test('keys run the binding that was registered last, in pairs and alone', () => {
  const ran: string[] = [];
  const bind = (keys: string, name = keys): (() => void) =>
    keyboard.register([{ keys, title: name, group: '', run: () => ran.push(name) }]);
  const undo = [bind('g r'), bind('r'), bind('?')];
  const page = bind('r', 'of the page');
  const local = {
    keys: 'r',
    title: 'of a chart',
    group: '',
    isLocal: true,
    run: () => ran.push('local'),
  };
  undo.push(keyboard.register([local]));
  press('r', 0);
  page();
  press('r', 10);
  press('g', 100);
  press('r', 200);
  press('g', 1_000);
  press('r', 2_500);
  expect(ran).toEqual(['of the page', 'r', 'g r', 'r']);
  const within = (name: string): object => ({
    closest: (names: string) => (names.includes(name) ? {} : null),
  });
  expect(press('r', 9_000, within('input'))).toBe(false);
  expect(press('x', 9_500)).toBe(false);
  undo.push(bind('Enter'));
  expect(press('Enter', 9_600, within('button'))).toBe(false);
  expect(press('Enter', 9_700)).toBe(true);
  undo.forEach(end => end());
  expect(keyboard.commands).toEqual([]);
});

test('names and caps of keys', () => {
  expect(nameOf({ key: 'K', ctrlKey: true, metaKey: false, altKey: false })).toBe('mod+k');
  expect(keyCaps('mod+k')).toEqual(['Ctrl', 'K']);
  expect(keyCaps('g r')).toEqual(['G', 'R']);
  expect(keyCaps('+')).toEqual(['+']);
});

test('commands are found by all words, titles first', () => {
  const command = (
    title: string,
    group: string,
  ): { title: string; group: string; run: () => void } => ({
    title,
    group,
    run: () => {},
  });
  const all = [
    command('Go to runs', 'Pages'),
    command('Runs of today', 'Pages'),
    command('Log y', 'Run'),
  ];
  expect(matching(all, 'runs').map(({ title }) => title)).toEqual(['Runs of today', 'Go to runs']);
  expect(matching(all, '').map(({ title }) => title)).toEqual([
    'Log y',
    'Go to runs',
    'Runs of today',
  ]);
  expect(matching(all, 'pages go').map(({ title }) => title)).toEqual(['Go to runs']);
});
