import { expect, test } from 'vitest';

import { boxesOf, layerOf } from './annotations.ts';

const SIZE = { width: 200, height: 100 };
const text = (box_data: unknown[]): string =>
  JSON.stringify({ box_data, class_labels: { '1': 'car' } });

test('a series annotates the images of its name and context', () => {
  const image = { name: 'street', context: '{"subset":"val","k":1}' };
  const other = (context: string, name = 'street') => ({ name, context });
  expect(layerOf(image, other('{"k":1,"boxes":"truth","subset":"val"}'), 'boxes')).toBe('truth');
  for (const context of ['{"boxes":"truth"}', '{"subset":"val","k":1}', '{"k":NaN}', ''])
    expect(layerOf(image, other(context), 'boxes'), context).toBeUndefined();
  const full = '{"k":1,"mask":"m","subset":"val"}';
  expect(layerOf(image, other(full), 'mask')).toBe('m');
  expect(layerOf(image, other(full), 'boxes')).toBeUndefined();
  expect(layerOf(image, other(full, 'road'), 'mask')).toBeUndefined();
  expect(
    layerOf({ name: 'a', context: '{}' }, { name: 'a', context: '{"mask":"m"}' }, 'mask'),
  ).toBe('m');
});

test('boxes are fractions of the image or pixels, by their ends or their middle', () => {
  const boxes = boxesOf(
    'truth',
    text([
      { position: { minX: 0.25, maxX: 0.5, minY: 0.1, maxY: 0.3 }, class_id: 1 },
      {
        position: { middle: [50, 40], width: 20, height: 10 },
        domain: 'pixel',
        class_id: 7,
        box_caption: 'a bus',
      },
    ]),
    SIZE,
  );
  expect(boxes).toMatchObject([
    { layer: 'truth', left: 50, width: 50, label: 'car', classId: 1 },
    { left: 40, top: 35, width: 20, height: 10, label: 'a bus', classId: 7 },
  ]);
  expect(boxes[0]?.top).toBeCloseTo(10);
  expect(boxes[0]?.height).toBeCloseTo(20);
});

test('invalid boxes are left out', () => {
  const position = { minX: 0, maxX: 1, minY: 0, maxY: 1 };
  const all = [
    null,
    {},
    { position: { minX: 'x', maxX: 1, minY: 0, maxY: 1 } },
    { position: { ...position, maxX: -1 } },
    { position: { middle: [], width: 1, height: 1 } },
    { position, class_id: {}, box_caption: { a: 1 } },
  ];
  expect(boxesOf('a', text(all), SIZE)).toEqual([
    { layer: 'a', left: 0, top: 0, width: 200, height: 100, label: '', classId: 0 },
  ]);
  for (const bad of ['', 'no json', 'null', '[]', '{"box_data":{}}'])
    expect(boxesOf('a', bad, SIZE), bad).toEqual([]);
});
