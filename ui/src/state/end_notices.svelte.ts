/**
 * Notifications of the browser when a run ends that the reader chose. The choice is in local storage. Any open tab of the
 * project shows them, also in the background. If a run ends while no tab is open, the next tab reports it.
 */
import { liveRuns } from '../api/live.ts';
import { Urgency } from '../api/read_queue.ts';
import { readRuns } from '../api/runs.ts';
import { projectName } from '../api/transport.ts';
import { OutcomeKind } from '../gen/matyan/common/v1/common_pb.ts';
import type { Props } from '../gen/matyan/runs/v1/run_pb.ts';
import { href, navigate } from './location.svelte.ts';
import { toaster } from './toasts.svelte.ts';

const KEY = `matyan-end-notices ${projectName}`.trimEnd();
/** Maximum number of runs that are followed. When it is exceeded, the oldest choice is dropped. */
const MAX_RUNS = 100;

const ENDS: Record<OutcomeKind, string> = {
  [OutcomeKind.UNSPECIFIED]: 'has ended',
  [OutcomeKind.FINISHED]: 'has finished',
  [OutcomeKind.FAILED]: 'has failed',
  [OutcomeKind.INTERRUPTED]: 'was interrupted',
};

class EndNotices {
  runs = $state.raw<readonly string[]>(read());

  /** Called once, when the page is loaded. */
  start(): void {
    // Another tab has changed the list.
    addEventListener('storage', ({ key }) => {
      if (key === KEY) this.runs = read();
    });
    liveRuns.subscribe(message => {
      if (message.kind === 'reset') void this.#check();
      if (message.kind !== 'changes') return;
      // Changes of the kind `left` are ignored: such a run may be restored from the bin, and stays chosen until the next check.
      for (const { runId, change } of message.changes)
        if (change.case === 'run') this.#report(runId, change.value.props);
    });
    void this.#check();
  }

  isWanted(runId: string): boolean {
    return this.runs.includes(runId);
  }

  /** Follows a run, or stops following it. Following needs the permission of the reader; throws without it. */
  async toggle(runId: string): Promise<void> {
    if (this.isWanted(runId)) {
      this.#drop(runId);
      return;
    }
    if (!('Notification' in globalThis) || !isSecureContext)
      throw new Error('The browser allows notifications only over HTTPS or on this machine');
    if (!canNotify())
      throw new Error(
        'This browser shows notifications only from installed apps, not from web pages',
      );
    if ((await Notification.requestPermission()) !== 'granted')
      throw new Error('The browser does not allow notifications from this page');
    if (!this.#keep([...read().filter(id => id !== runId), runId].slice(-MAX_RUNS)))
      throw new Error('The browser does not let this page save the choice');
    // It may have ended before the permission was given.
    await this.#check();
  }

  /** Reads the runs whose end may have been missed. If that fails, the next reset tries again. */
  async #check(): Promise<void> {
    const ids = read();
    if (ids.length === 0) return;
    const found = await readRuns(ids, { props: true }, Urgency.Refresh).catch(() => undefined);
    if (!found) return;
    for (const id of ids) {
      const run = found.get(id);
      if (run) this.#report(id, run.props);
      else this.#drop(id);
    }
  }

  #report(runId: string, props: Props | undefined): void {
    // Another tab may have reported it.
    if (!props || props.active || !read().includes(runId)) return;
    const title = `${props.name || runId} ${ENDS[props.outcome?.kind ?? OutcomeKind.UNSPECIFIED]}`;
    const reason = props.outcome?.message ?? '';
    if (!notify(runId, title, reason)) toaster.notice(title, reason);
    this.#drop(runId);
  }

  #drop(runId: string): void {
    const before = read();
    if (before.includes(runId)) this.#keep(before.filter(id => id !== runId));
  }

  /** Stores the list. Returns false if the browser refuses: a run that is not stored is not reported. */
  #keep(runs: readonly string[]): boolean {
    try {
      localStorage.setItem(KEY, JSON.stringify(runs));
    } catch {
      return false;
    }
    this.runs = runs;
    return true;
  }
}

/** Returns false if the browser refuses. */
function notify(runId: string, title: string, body: string): boolean {
  // Tabs that see the end at the same moment show one notification.
  const tag = `${KEY} ${runId}`;
  try {
    // Without permission, which the reader may have revoked, a notification is created but never shown.
    if (Notification.permission !== 'granted') return false;
    const notification = new Notification(title, { body, tag });
    notification.onclick = () => {
      focus();
      navigate(href('run', { run: runId }));
    };
    return true;
  } catch {
    return false;
  }
}

/**
 * Whether a page can show notifications. Mobile browsers have the API, but the constructor throws: only the service worker
 * of an app may show them. So this creates one. Without permission it is not shown; otherwise it is closed at once.
 */
function canNotify(): boolean {
  try {
    new Notification('Matyan', { tag: KEY, silent: true }).close();
    return true;
  } catch {
    return false;
  }
}

function read(): string[] {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(KEY) ?? '[]');
    return Array.isArray(stored) ? stored.filter(one => typeof one === 'string') : [];
  } catch {
    return [];
  }
}

export const endNotices = new EndNotices();
