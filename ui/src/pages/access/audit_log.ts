/** The entries of the audit log that a reader wants, and how they are shown. */
import type { AuditPage, AuditQuery } from '../../api/audit.ts';
import type { schemas } from '../../state/routes.ts';
import type { State } from '../../state/url.ts';

type AboutEntry = Pick<AuditPage['entries'][number], 'rpc' | 'resource' | 'outcome'>;

/** The filters of the page in its address. */
export type AuditFilters = State<typeof schemas.audit>;

/**
 * Pages without a wanted entry that are read at once. The server looks through some thousand entries
 * for each page, and the reader decides whether to go on.
 */
const EMPTY_PAGES = 5;

/** Filters that leave nothing out. */
export const NO_FILTERS = {
  principal: '',
  call: '',
  about: '',
  failed: false,
  from: '',
  to: '',
} satisfies Partial<AuditFilters>;

/** `mayOperate`: whether the reader may see the entries of all projects. */
export function auditQuery(filters: AuditFilters, mayOperate: boolean): AuditQuery {
  const { principal, call, about, failed, from, to, everywhere } = filters;
  return {
    everywhere: everywhere && mayOperate,
    principal: principal.trim(),
    rpc: call.trim(),
    resource: about.trim(),
    failed,
    sinceUs: startOf(from, 0),
    // The last day is included.
    untilUs: startOf(to, 1),
  };
}

/** The start of a day in the time zone of the reader, or of a day after it. */
function startOf(day: string, laterDays: number): bigint | undefined {
  if (!day) return undefined;
  const [year = 0, month = 1, date = 1] = day.split('-').map(Number);
  // Days have 23 to 25 hours, and years before 100 are no years of the last century.
  const start = new Date(0);
  start.setFullYear(year, month - 1, date + laterDays);
  start.setHours(0, 0, 0, 0);
  return BigInt(start.getTime()) * 1_000n;
}

/** Whether a filter leaves out entries. */
export function isFiltered({ everywhere: _, ...filter }: AuditQuery): boolean {
  return Object.values(filter).some(Boolean);
}

/** Reads from a cursor until there are entries, the log ends, or many pages had none. */
export async function readSome(
  read: (cursor: string) => Promise<AuditPage>,
  cursor: string,
): Promise<AuditPage> {
  let page = await read(cursor);
  for (let empty = 1; empty < EMPTY_PAGES; empty += 1) {
    if (page.entries.length > 0 || page.nextCursor === '') break;
    page = await read(page.nextCursor);
  }
  return page;
}

/** A call without its package, such as `AccessService/Grant`; or what else happened, such as `sign-in`. */
export function callText(rpc: string): string {
  return rpc.slice(rpc.lastIndexOf('.') + 1);
}

/** The call that was made, such as `Grant`, and its service; empty for entries without a call. */
export function callParts(rpc: string): { name: string; service: string } {
  const [service = '', name] = callText(rpc).split('/');
  return name === undefined ? { name: service, service: '' } : { name, service };
}

/** The subject of an entry. The content of a denied call is not read, so its subject is unknown. */
export function aboutText({ rpc, resource, outcome }: AboutEntry): string {
  const isUnread = outcome === 'PERMISSION_DENIED' && callParts(rpc).service !== '';
  return resource || (isUnread ? 'not read' : '');
}

/** `NOT_FOUND` as `not found`. */
export function outcomeText(outcome: string): string {
  return outcome.toLowerCase().replaceAll('_', ' ');
}

/** Where a call came from: an address, and the id of a token or a session. */
export function originText(address: string, credential: string): string {
  const id = credential && `token ${credential.slice(0, 8)}`;
  return [address, id].filter(Boolean).join(' · ');
}
