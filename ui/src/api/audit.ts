/** The audit log: who has changed rights, deleted data and signed in. */
import { AuditService, type AuditEntry } from '../gen/matyan/access/v1/audit_pb.ts';
import { unary } from './transport.ts';

/** Entries of one call. */
const PAGE_SIZE = 100;

/** The entries that are wanted. Fields that are empty or undefined leave nothing out. */
export interface AuditQuery {
  /**
   * Whether the entries of all projects and of the server are wanted, and not the entries of one
   * project.
   */
  everywhere: boolean;
  principal: string;
  /** A part of the name of the call. */
  rpc: string;
  /** A part of what the call was about. */
  resource: string;
  failed: boolean;
  sinceUs: bigint | undefined;
  untilUs: bigint | undefined;
}

/** Entries, newest first. */
export interface AuditPage {
  entries: AuditEntry[];
  /** Where older entries begin; empty at the end of the log. */
  nextCursor: string;
}

/** Reads a page, which may be empty before the end of the log. `cursor` is empty for the newest entries. */
export function readAuditPage(
  { everywhere, ...filter }: AuditQuery,
  cursor: string,
  signal?: AbortSignal,
): Promise<AuditPage> {
  const { listAllEntries, listEntries } = AuditService.method;
  const request = { filter, pageSize: PAGE_SIZE, cursor };
  return everywhere ? unary(listAllEntries, request, signal) : unary(listEntries, request, signal);
}
