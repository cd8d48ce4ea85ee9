/** Queries that everybody of the project sees, saved on the server as states of the type `query`. */
import { decodeMap } from '../api/cbor.ts';
import { encodeCbor } from '../api/cbor_writer.ts';
import { Urgency } from '../api/read_queue.ts';
import { client, gathered, limited, queued, unary } from '../api/transport.ts';
import { AppService } from '../gen/matyan/apps/v1/apps_pb.ts';

const TYPE = 'query';

export interface SavedQuery {
  id: string;
  text: string;
}

export function readSaved(signal?: AbortSignal): Promise<SavedQuery[]> {
  return queued('AppService.List', Urgency.Visible, signal, async () => {
    const apps = await gathered(client(AppService).list({}, limited(signal)), page => page.apps);
    const saved = apps.flatMap(({ id, type, state }): SavedQuery[] => {
      const { text } = type === TYPE ? decodeMap(state) : {};
      return typeof text === 'string' && text !== '' ? [{ id, text }] : [];
    });
    return saved.reverse();
  });
}

export async function saveQuery(text: string): Promise<SavedQuery> {
  const { app } = await unary(AppService.method.create, { type: TYPE, state: encodeCbor({ text }) });
  return { id: app?.id ?? '', text };
}

export async function removeSaved(id: string): Promise<void> {
  await unary(AppService.method.delete, { id });
}
