/**
 * Dashboards and reports. The panels of a dashboard are an app of the type `dashboard`; a report is
 * a text.
 */
import { AppService } from '../gen/matyan/apps/v1/apps_pb.ts';
import { DashboardService } from '../gen/matyan/dashboards/v1/dashboards_pb.ts';
import { ReportService } from '../gen/matyan/reports/v1/reports_pb.ts';
import { decodeMap, type CborValue } from './cbor.ts';
import { encodeCbor, type CborState } from './cbor_writer.ts';
import { removeAllVersions } from './report_versions.ts';
import { unary } from './transport.ts';

export type DocumentKind = 'dashboards' | 'reports';

export interface OpenDocument {
  name: string;
  /** Time of the last change, so that no later change is overwritten. */
  updatedUs: bigint;
  /** The Markdown of a report. */
  code: string;
  /**
   * The app of a dashboard, which has its panels, and the state of the app; undefined if another
   * program saved the app.
   */
  appId: string;
  state: { [key: string]: CborValue } | undefined;
  appUpdatedUs: bigint;
}

const TYPE = 'dashboard';
const reports = ReportService.method;
const dashboards = DashboardService.method;
const apps = AppService.method;

export async function readDocument(
  kind: DocumentKind,
  id: string,
  signal?: AbortSignal,
): Promise<OpenDocument> {
  const none = { updatedUs: 0n, code: '', appId: '', state: undefined, appUpdatedUs: 0n };
  if (kind === 'reports') {
    const { report } = await unary(reports.get, { id }, signal);
    const { name = '', code = '', updatedUs = 0n } = report ?? {};
    return { ...none, name, code, updatedUs };
  }
  const { dashboard } = await unary(dashboards.get, { id }, signal);
  const { name = '', appId = '', updatedUs = 0n } = dashboard ?? {};
  if (dashboard?.appType !== TYPE) return { ...none, name, updatedUs };
  const { app } = await unary(apps.get, { id: appId }, signal);
  const state = app && decodeMap(app.state);
  return { ...none, name, updatedUs, appId, state, appUpdatedUs: app?.updatedUs ?? 0n };
}

export async function createDocument(
  kind: DocumentKind,
  name: string,
  code: string,
): Promise<string> {
  if (kind === 'reports') return (await unary(reports.create, { name, code })).report?.id ?? '';
  const { app } = await unary(apps.create, { type: TYPE, state: encodeCbor({ panels: [] }) });
  return (await unary(dashboards.create, { name, appId: app?.id ?? '' })).dashboard?.id ?? '';
}

/**
 * Fails if the document has changed since it was read. Returns the fields that the save has
 * changed.
 */
export async function updateDocument(
  kind: DocumentKind,
  id: string,
  { updatedUs: ifUpdatedUs }: OpenDocument,
  change: Partial<Pick<OpenDocument, 'name' | 'code'>>,
): Promise<Partial<OpenDocument>> {
  const updated =
    kind === 'reports'
      ? (await unary(reports.update, { id, ...change, ifUpdatedUs })).report
      : (await unary(dashboards.update, { id, ...change, ifUpdatedUs })).dashboard;
  return { ...change, updatedUs: updated?.updatedUs ?? 0n };
}

export async function deleteDocument(kind: DocumentKind, id: string): Promise<void> {
  if (kind === 'dashboards') {
    await unary(dashboards.delete, { id });
    return;
  }
  // A failure leaves the report, so that it can be deleted again.
  await removeAllVersions(id);
  await unary(reports.delete, { id });
}

/** Creates a deleted document again. It has another id. */
export async function restoreDocument(
  kind: DocumentKind,
  { name, code, appId }: OpenDocument,
): Promise<string> {
  if (kind === 'reports') return createDocument(kind, name, code);
  // The panels are in the app, which was not deleted.
  return (await unary(dashboards.create, { name, appId })).dashboard?.id ?? '';
}

/** Keeps the panels of a dashboard, and its filter. Fails if somebody else has changed them. */
export async function saveDashboard(
  { appId: id, appUpdatedUs: ifUpdatedUs }: OpenDocument,
  state: { panels: CborState[]; query: string },
): Promise<Partial<OpenDocument>> {
  const { app } = await unary(apps.update, { id, state: encodeCbor(state), ifUpdatedUs });
  return { appUpdatedUs: app?.updatedUs ?? 0n };
}
