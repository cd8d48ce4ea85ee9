/** Panels in reports and dashboards, in cases that the tests of `matyan publish` read, too. */
import { expect, test } from 'vitest';

import file from '../../../tests/vectors/panels.json?raw';
import type { CborValue } from '../api/cbor.ts';
import { MetricValue, SortField } from '../gen/matyan/search/v1/search_pb.ts';
import { sortFor } from '../pages/runs/requests.ts';
import { parseMarkdown, pictureOf, type Block, type Inline } from '../parts/markdown.ts';
import { expressionOf } from '../query/conditions.ts';
import { dashboardOf, filtered } from './dashboard.ts';
import { isPanelKind, parsePanel, runsOf, type Panel } from './panels.ts';

interface Shown {
  kind: string;
  runs?: number | undefined;
  sort?: unknown[];
  media?: string | undefined;
  /** The query of the panel, or what the server gets. */
  query?: string;
  expression?: string;
}

interface Vectors {
  reports: { about: string; text: string; panels: Shown[]; pictures?: string[][] }[];
  dashboards: { about: string; state: { [key: string]: CborValue }; panels: Shown[] }[];
  queries: { query: string; expression: string }[];
}

const vectors = JSON.parse(file) as Vectors;

function orderOf({ by, metricValue, descending }: ReturnType<typeof sortFor>[number]): unknown {
  if (by?.case === 'field') return { field: SortField[by.value], descending };
  if (by?.case === 'param') return { param: by.value.segments, descending };
  if (by?.case !== 'metric') return undefined;
  const value = MetricValue[metricValue ?? MetricValue.UNSPECIFIED];
  return { metric: by.value.name, context: by.value.context, value, descending };
}

/** Which runs a panel shows, apart from its query. */
function shown(panel: Panel): Shown {
  const { kind } = panel;
  return {
    kind,
    runs: kind === 'text' ? undefined : runsOf(panel),
    sort: kind === 'runs' ? sortFor(panel.sort).map(orderOf) : [],
    media: kind === 'media' ? panel.media : undefined,
  };
}

function expected({ kind, runs, sort = [], media = 'images' }: Shown): Shown {
  return { kind, runs, sort, media: kind === 'media' ? media : undefined };
}

function inlinesOf(block: Block): Inline[] {
  if (block.kind === 'list') return block.items.flatMap(({ inlines }) => inlines);
  if (block.kind === 'table') return block.rows.flat(2);
  return 'inlines' in block ? block.inlines : [];
}

test.each(vectors.reports)('a report: $about', ({ text, panels, pictures = [] }) => {
  const blocks = parseMarkdown(text);
  const found = blocks.flatMap(block => {
    const isPanel =
      block.kind === 'code' && block.language !== 'text' && isPanelKind(block.language);
    return isPanel ? [parsePanel(block.language, block.text).panel] : [];
  });
  expect(found.map(shown)).toEqual(panels.map(expected));
  expect(found.map(({ query }) => query)).toEqual(panels.map(({ query }) => query));
  const places = blocks.flatMap(inlinesOf).flatMap(({ kind, href = '' }) => {
    const place = kind === 'picture' ? pictureOf(href) : undefined;
    return place ? [[place.runId, place.path]] : [];
  });
  expect(places).toEqual(pictures);
});

test.each(vectors.dashboards)('a dashboard: $about', ({ state, panels }) => {
  const dashboard = dashboardOf(state);
  const found = dashboard.panels.map(panel => filtered(panel, dashboard.query));
  expect(found.map(shown)).toEqual(panels.map(expected));
  for (const [at, { kind, query }] of found.entries())
    if (kind !== 'text') expect(expressionOf(query)).toBe(panels[at]?.expression);
});

test.each(vectors.queries)('the query $query', ({ query, expression }) => {
  expect(expressionOf(query)).toBe(expression);
});
