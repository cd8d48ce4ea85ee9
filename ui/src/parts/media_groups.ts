/** Objects of media sequences as cards, in groups. */
import type { MediaSequence } from '../api/media.ts';
import { keyedTitle, metricTitle } from '../format/context.ts';
import type { Object$ as MediaObject } from '../gen/matyan/objects/v1/objects_pb.ts';
import { byName, groupBy } from '../collections.ts';
import type { MediaGrouping } from '../state/routes.ts';

export interface MediaCard {
  id: string;
  sequence: MediaSequence;
  step: number;
  object: MediaObject;
}

export interface MediaRow {
  /** Empty in all rows of a group but the first row. */
  title: string;
  cards: MediaCard[];
}

export function allSteps(sequences: readonly MediaSequence[]): number[] {
  const steps = new Set(sequences.flatMap(({ steps }) => steps.map(({ step }) => Number(step))));
  return [...steps].sort((a, b) => a - b);
}

/**
 * The step of a slider, which has none before the first step; undefined: the last step of each
 * sequence. A link may have a step of other runs.
 */
export function sliderStep(at: number | undefined, steps: readonly number[]): number | undefined {
  return at === undefined ? undefined : Math.max(at, steps[0] ?? at);
}

/** Runs stay in their order; the series of a run are in the order of their names and contexts. */
function inOrder(sequences: readonly MediaSequence[]): MediaSequence[] {
  const runs = groupBy(sequences, ({ runId }) => runId);
  const compare = (a: MediaSequence, b: MediaSequence): number =>
    byName(a.name, b.name) || byName(keyedTitle(a.context), keyedTitle(b.context));
  return [...runs.values()].flatMap(own => own.toSorted(compare));
}

/**
 * The objects of each sequence at a step. A sequence without objects at the step shows its last
 * step before it, so a run that has ended keeps its last item; without a step every sequence shows
 * its last step. Grouped by step, all steps are shown.
 */
export function mediaCards(
  sequences: readonly MediaSequence[],
  grouping: MediaGrouping,
  stepOf: (sequence: MediaSequence) => number | undefined,
): MediaCard[] {
  return inOrder(sequences).flatMap(sequence => {
    const wanted = stepOf(sequence) ?? Infinity;
    const last = sequence.steps.findLast(({ step }) => Number(step) <= wanted);
    const steps = grouping === 'step' ? sequence.steps : last ? [last] : [];
    return steps.flatMap(({ step, objects }) =>
      objects.map(object => ({
        id: `${sequence.id} ${grouping === 'step' ? step : ''} ${object.index}`,
        sequence,
        step: Number(step),
        object,
      })),
    );
  });
}

const TITLES: Record<MediaGrouping, (card: MediaCard) => string> = {
  run: ({ sequence }) => sequence.runName,
  step: ({ step }) => `Step ${step}`,
  index: ({ object }) => `Index ${object.index}`,
  name: ({ sequence }) => sequence.name,
  context: ({ sequence }) => metricTitle(sequence.name, sequence.context),
};

export function mediaRows(
  cards: readonly MediaCard[],
  grouping: MediaGrouping,
  perRow: number,
): MediaRow[] {
  const key = (card: MediaCard): string =>
    grouping === 'run' ? card.sequence.runId : TITLES[grouping](card);
  const groups = [...groupBy(cards, key).values()];
  const at = ({ step, object }: MediaCard): number => (grouping === 'step' ? step : object.index);
  if (grouping === 'step' || grouping === 'index')
    groups.sort((a, b) => at(a[0] as MediaCard) - at(b[0] as MediaCard));
  if (grouping === 'name' || grouping === 'context')
    groups.sort((a, b) => byName(key(a[0] as MediaCard), key(b[0] as MediaCard)));
  return groups.flatMap(group => {
    const rows: MediaRow[] = [];
    for (let from = 0; from < group.length; from += perRow) {
      const title = from === 0 ? TITLES[grouping](group[0] as MediaCard) : '';
      rows.push({ title, cards: group.slice(from, from + perRow) });
    }
    return rows;
  });
}

/** The targets of a walk from a card: another object, or another step of the same object. */
export interface Walk {
  previous: MediaCard | undefined;
  next: MediaCard | undefined;
  /** Steps of the sequence that have the object, and the place of the step of the card. */
  steps: number[];
  at: number;
}

/** The neighbors of a card in the order of the page. */
export function walkFrom(cards: readonly MediaCard[], card: MediaCard): Walk {
  const at = cards.indexOf(card);
  const steps = card.sequence.steps
    .filter(({ objects }) => objects.some(({ index }) => index === card.object.index))
    .map(({ step }) => Number(step));
  return { previous: cards[at - 1], next: cards[at + 1], steps, at: steps.indexOf(card.step) };
}
