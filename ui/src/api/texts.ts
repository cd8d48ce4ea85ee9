/** Texts that the server keeps for everybody of the project, each as the state of an app. */
import { AppService } from '../gen/matyan/apps/v1/apps_pb.ts';
import { decodeMap } from './cbor.ts';
import { encodeCbor } from './cbor_writer.ts';
import { Urgency } from './read_queue.ts';
import { client, gathered, limited, queued, unary } from './transport.ts';

/** A query, or the state of a page that is too long for its address. */
type TextType = 'query' | 'view';

export interface SavedText {
  id: string;
  text: string;
}

function textOf(state: Uint8Array = new Uint8Array()): string {
  const { text } = decodeMap(state);
  return typeof text === 'string' ? text : '';
}

/** The newest first. */
export function readTexts(type: TextType, signal?: AbortSignal): Promise<SavedText[]> {
  return queued('AppService.List', Urgency.Visible, signal, async () => {
    const apps = await gathered(client(AppService).list({}, limited(signal)), page => page.apps);
    const texts = apps.filter(app => app.type === type).map(({ id, state }) => ({ id, text: textOf(state) }));
    return texts.filter(({ text }) => text !== '').reverse();
  });
}

export async function readText(id: string): Promise<string> {
  return textOf((await unary(AppService.method.get, { id })).app?.state);
}

export async function saveText(type: TextType, text: string): Promise<SavedText> {
  const { app } = await unary(AppService.method.create, { type, state: encodeCbor({ text }) });
  return { id: app?.id ?? '', text };
}

/** The state of a page, which is removed when so many newer ones are saved: nobody cleans them up by hand. */
const KEPT_VIEWS = 200;

export async function saveView(text: string): Promise<string> {
  const { id } = await saveText('view', text);
  const old = (await readTexts('view')).slice(KEPT_VIEWS);
  // Another tab may have removed one already; what remains is removed with the next view.
  await Promise.allSettled(old.map(({ id }) => removeText(id)));
  return id;
}

export async function removeText(id: string): Promise<void> {
  await unary(AppService.method.delete, { id });
}
