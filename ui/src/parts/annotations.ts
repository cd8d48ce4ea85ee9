/**
 * Boxes and masks of images, as W&B's images have them: texts and images under the name of the image,
 * whose context says the layer in addition to the context of the image.
 */
import type { MediaSequence } from '../api/media.ts';
import type { MediaCard } from './media_groups.ts';

export interface Box {
  layer: string;
  /** Ends in pixels of the image. */
  left: number;
  top: number;
  width: number;
  height: number;
  label: string;
  /** The number of its class, which gives it its color. */
  classId: number;
}

type Fields = Record<string, unknown>;

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function contextOf(text: string): Fields | undefined {
  try {
    const context: unknown = JSON.parse(text || '{}');
    return isFields(context) ? context : undefined;
  } catch {
    return undefined;
  }
}

/** The layer of a series that annotates a series of images; undefined: it does not. */
export function layerOf(
  image: Pick<MediaSequence, 'name' | 'context'>,
  other: Pick<MediaSequence, 'name' | 'context'>,
  key: 'boxes' | 'mask',
): string | undefined {
  const { [key]: layer, ...rest } = contextOf(other.context) ?? {};
  const own = contextOf(image.context);
  if (other.name !== image.name || typeof layer !== 'string' || !own) return undefined;
  const sorted = (fields: Fields): string => JSON.stringify(Object.entries(fields).sort());
  return sorted(rest) === sorted(own) ? layer : undefined;
}

interface Size {
  width: number;
  height: number;
}

/** The boxes of a layer. What is no box is left out, and so is text that is no JSON. */
export function boxesOf(layer: string, text: string, { width, height }: Size): Box[] {
  let stored: unknown;
  try {
    stored = JSON.parse(text);
  } catch {
    return [];
  }
  if (!isFields(stored) || !Array.isArray(stored.box_data)) return [];
  const names = isFields(stored.class_labels) ? stored.class_labels : {};
  return stored.box_data.filter(isFields).flatMap((box): Box[] => {
    const place = isFields(box.position) ? endsOf(box.position) : undefined;
    if (!place) return [];
    const isPixel = box.domain === 'pixel';
    const [x, y] = isPixel ? [1, 1] : [width, height];
    const classId = Math.abs(Math.trunc(Number(box.class_id ?? 0))) || 0;
    const caption = box.box_caption ?? names[String(classId)];
    return [
      {
        ...{ layer, classId, label: typeof caption === 'string' ? caption : '' },
        ...{ left: place.left * x, top: place.top * y },
        ...{ width: place.width * x, height: place.height * y },
      },
    ];
  });
}

/** W&B has two forms: both ends, or the middle and the size. */
function endsOf(position: Fields): Record<'left' | 'top' | 'width' | 'height', number> | undefined {
  const { minX, maxX, minY, maxY, middle, width, height } = position;
  const [x, y]: unknown[] = Array.isArray(middle) ? middle : [];
  const found = Array.isArray(middle)
    ? {
        left: Number(x) - Number(width) / 2,
        top: Number(y) - Number(height) / 2,
        width: Number(width),
        height: Number(height),
      }
    : {
        left: Number(minX),
        top: Number(minY),
        width: Number(maxX) - Number(minX),
        height: Number(maxY) - Number(minY),
      };
  const isBox =
    Object.values(found).every(Number.isFinite) && found.width >= 0 && found.height >= 0;
  return isBox ? found : undefined;
}

/** The masks of an image among the cards of a page, with their layers. */
export function masksOf(
  cards: readonly MediaCard[],
  image: MediaCard,
): { layer: string; card: MediaCard }[] {
  return cards.flatMap(card => {
    const isSame = card.sequence.runId === image.sequence.runId && card.step === image.step;
    const layer = layerOf(image.sequence, card.sequence, 'mask');
    return isSame && card.object.index === image.object.index && layer !== undefined
      ? [{ layer, card }]
      : [];
  });
}
