/** Dashboards and reports. The panels of a dashboard are an app of the type `dashboard`; a report is a text. */
import { AppService } from '../gen/matyan/apps/v1/apps_pb.ts';
import { DashboardService } from '../gen/matyan/dashboards/v1/dashboards_pb.ts';
import { ReportService } from '../gen/matyan/reports/v1/reports_pb.ts';
import { decodeMap, type CborValue } from './cbor.ts';
import { encodeCbor, type CborState } from './cbor_writer.ts';
import { unary } from './transport.ts';

export type DocumentKind = 'dashboards' | 'reports';

export interface OpenDocument {
  name: string;
  /** Of a report: Markdown. */
  code: string;
  /** Of a dashboard: the app with its panels, and their state; undefined if another program saved it. */
  appId: string;
  state: { [key: string]: CborValue } | undefined;
}

const TYPE = 'dashboard';
const [reports, dashboards, apps] = [ReportService.method, DashboardService.method, AppService.method];

export async function readDocument(
  kind: DocumentKind,
  id: string,
  signal?: AbortSignal,
): Promise<OpenDocument> {
  const none = { code: '', appId: '', state: undefined };
  if (kind === 'reports') {
    const { report } = await unary(reports.get, { id }, signal);
    return { ...none, name: report?.name ?? '', code: report?.code ?? '' };
  }
  const { dashboard } = await unary(dashboards.get, { id }, signal);
  const { name = '', appId = '' } = dashboard ?? {};
  if (dashboard?.appType !== TYPE) return { ...none, name };
  const { app } = await unary(apps.get, { id: appId }, signal);
  return { ...none, name, appId, state: app && decodeMap(app.state) };
}

export async function createDocument(kind: DocumentKind, name: string, code: string): Promise<string> {
  if (kind === 'reports') return (await unary(reports.create, { name, code })).report?.id ?? '';
  const { app } = await unary(apps.create, { type: TYPE, state: encodeCbor({ panels: [] }) });
  return (await unary(dashboards.create, { name, appId: app?.id ?? '' })).dashboard?.id ?? '';
}

export async function updateDocument(
  kind: DocumentKind,
  id: string,
  change: { name?: string; code?: string },
): Promise<void> {
  await (kind === 'reports'
    ? unary(reports.update, { id, ...change })
    : unary(dashboards.update, { id, name: change.name }));
}

export async function deleteDocument(kind: DocumentKind, id: string): Promise<void> {
  await (kind === 'reports' ? unary(reports.delete, { id }) : unary(dashboards.delete, { id }));
}

export function savePanels(appId: string, panels: CborState[]): Promise<unknown> {
  return unary(apps.update, { id: appId, state: encodeCbor({ panels }) });
}
