/** Dashboards and reports. The panels of a dashboard are an app of the type `dashboard`; a report is a text. */
import { AppService } from '../gen/matyan/apps/v1/apps_pb.ts';
import { DashboardService } from '../gen/matyan/dashboards/v1/dashboards_pb.ts';
import { ReportService } from '../gen/matyan/reports/v1/reports_pb.ts';
import { decodeMap, type CborValue } from './cbor.ts';
import { encodeCbor } from './cbor_writer.ts';
import { Urgency } from './read_queue.ts';
import { call, client, limited, queued } from './transport.ts';

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
const SERVICES = { reports: client(ReportService), dashboards: client(DashboardService) };

export function readDocument(kind: DocumentKind, id: string, signal?: AbortSignal): Promise<OpenDocument> {
  return queued(`${kind} get`, Urgency.Visible, signal, async () => {
    if (kind === 'reports') {
      const { report } = await SERVICES.reports.get({ id }, limited(signal));
      const { name = '', code = '' } = report ?? {};
      return { name, code, appId: '', state: undefined };
    }
    const { dashboard } = await SERVICES.dashboards.get({ id }, limited(signal));
    const { name = '', appId = '', appType = '' } = dashboard ?? {};
    if (appType !== TYPE) return { name, code: '', appId: '', state: undefined };
    const { app } = await client(AppService).get({ id: appId }, limited(signal));
    return { name, code: '', appId, state: app && decodeMap(app.state) };
  });
}

export async function createDocument(kind: DocumentKind, name: string, code: string): Promise<string> {
  return call(`${kind} create`, async () => {
    if (kind === 'reports')
      return (await SERVICES.reports.create({ name, code }, limited())).report?.id ?? '';
    const state = encodeCbor({ panels: [] });
    const { app } = await client(AppService).create({ type: TYPE, state }, limited());
    const request = { name, appId: app?.id ?? '' };
    return (await SERVICES.dashboards.create(request, limited())).dashboard?.id ?? '';
  });
}

export function updateDocument(
  kind: DocumentKind,
  id: string,
  change: { name?: string; code?: string },
): Promise<unknown> {
  return call(`${kind} update`, async () => SERVICES[kind].update({ id, ...change }, limited()));
}

export function deleteDocument(kind: DocumentKind, id: string): Promise<unknown> {
  return call(`${kind} delete`, async () => SERVICES[kind].delete({ id }, limited()));
}

export function savePanels(appId: string, panels: CborValue[]): Promise<unknown> {
  const change = { id: appId, state: encodeCbor({ panels }) };
  return call('AppService.Update', () => client(AppService).update(change, limited()));
}
