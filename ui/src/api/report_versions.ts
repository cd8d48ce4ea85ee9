/**
 * Earlier texts of a report, which the server keeps as apps of a type for each report. The newest
 * text is the report itself.
 */
import { AppService } from '../gen/matyan/apps/v1/apps_pb.ts';
import { tryDecodeMap } from './cbor.ts';
import { encodeCbor } from './cbor_writer.ts';
import { Urgency } from './read_queue.ts';
import { client, gathered, limited, queued, unary } from './transport.ts';

export interface ReportVersion {
  id: string;
  /** When the text was replaced by the next one. */
  replacedUs: bigint;
  code: string;
}

/** Number of versions that are kept. Older versions are seldom read, and each has a whole text. */
const KEPT_VERSIONS = 20;
const { method } = AppService;

function typeOf(reportId: string): string {
  return `report-version:${reportId}`;
}

/** The newest first. */
export function readVersions(reportId: string, signal?: AbortSignal): Promise<ReportVersion[]> {
  return queued('AppService.List', Urgency.Visible, signal, async () => {
    const types = [typeOf(reportId)];
    const apps = await gathered(
      client(AppService).list({ types }, limited(signal)),
      page => page.apps,
    );
    const versions = apps.flatMap(({ id, type, state, createdUs }): ReportVersion[] => {
      const { code } = tryDecodeMap(state) ?? {};
      const isOwn = types.includes(type) && typeof code === 'string';
      return isOwn ? [{ id, replacedUs: createdUs, code }] : [];
    });
    return versions.sort((a, b) => Number(b.replacedUs - a.replacedUs));
  });
}

/** Keeps a text that has just been replaced. */
export async function keepVersion(reportId: string, code: string): Promise<void> {
  if (code.trim() === '') return;
  await unary(method.create, { type: typeOf(reportId), state: encodeCbor({ code }) });
  await removeVersions((await readVersions(reportId)).slice(KEPT_VERSIONS));
}

/** Removes what is left of a report that is deleted. */
export async function removeAllVersions(reportId: string): Promise<void> {
  await removeVersions(await readVersions(reportId));
}

/** Another tab may have removed some of them. */
async function removeVersions(versions: readonly ReportVersion[]): Promise<void> {
  await Promise.allSettled(versions.map(({ id }) => unary(method.delete, { id })));
}
