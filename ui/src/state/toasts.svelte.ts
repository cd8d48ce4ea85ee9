/**
 * Short messages in the corner. Errors and notices stay until they are closed or retried; others
 * leave after some seconds.
 */
import { apiError, isAbort } from '../api/errors.ts';

export interface Toast {
  id: number;
  kind: 'info' | 'error';
  message: string;
  detail?: string;
  retry?: () => void;
  undo?: () => void;
  /** Nothing is changed by a retry, so it needs no click after an outage. */
  isRead?: boolean;
}

const INFO_MS = 5_000;
/** Time to notice a mistake. */
const UNDO_MS = 15_000;
/** More would cover the page. */
const MAX_TOASTS = 4;

let toasts = $state.raw<readonly Toast[]>([]);
let lastId = 0;

export const toaster = {
  /** Whether the reader is at the messages, with the pointer or the keyboard: they stay then. */
  isHeld: (): boolean => false,
  get toasts(): readonly Toast[] {
    return toasts;
  },
  /** `undo` takes back what the message says. */
  info(message: string, undo?: () => Promise<unknown>): void {
    const id = add({
      kind: 'info',
      message,
      ...(undo && { undo: () => toaster.during(undo, 'Undo') }),
    });
    expire(id, undo ? UNDO_MS : INFO_MS);
  },
  /** A message for a reader who may be away. */
  notice(message: string, detail = ''): void {
    add({ kind: 'info', message, ...(detail && { detail }) });
  },
  error(error: unknown, retry?: () => void, where?: string, isRead = true): void {
    if (isAbort(error)) return;
    const failure = apiError(error, where);
    const detail = `${failure.where}: ${failure.hint}`;
    if (toasts.some(toast => toast.message === failure.message && toast.detail === detail)) return;
    const again = retry && failure.canRetry && { retry, isRead };
    add({ kind: 'error', message: failure.message, detail, ...again });
  },
  during(run: () => Promise<unknown>, where?: string): void {
    run().catch(error => toaster.error(error, () => toaster.during(run, where), where, false));
  },
  close(id: number): void {
    toasts = toasts.filter(toast => toast.id !== id);
  },
};

export function copyText(text: string, message: string): void {
  toaster.during(async () => {
    if (!('clipboard' in navigator))
      throw new Error('The browser allows copying only over HTTPS and on this machine');
    await navigator.clipboard.writeText(text);
    toaster.info(message);
  }, 'Copying');
}

function expire(id: number, ms: number): void {
  setTimeout(() => (toaster.isHeld() ? expire(id, INFO_MS) : toaster.close(id)), ms);
}

function add(toast: Omit<Toast, 'id'>): number {
  lastId += 1;
  toasts = [...toasts.slice(1 - MAX_TOASTS), { ...toast, id: lastId }];
  return lastId;
}
