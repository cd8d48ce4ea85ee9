/** Texts that the server keeps for all readers of the project, each as the state of an app. */
import { AppService } from '../gen/matyan/apps/v1/apps_pb.ts';
import { decodeMap, tryDecodeMap, type CborValue } from './cbor.ts';
import { encodeCbor } from './cbor_writer.ts';
import { Urgency } from './read_queue.ts';
import { client, gathered, limited, queued, unary } from './transport.ts';

/** A query, or the state of a page that is too long for its address. */
type TextType = 'query' | 'view';

export interface SavedText {
  id: string;
  text: string;
}

function textOf({ text }: { text?: CborValue } = {}): string {
  return typeof text === 'string' ? text : '';
}

/** The newest first. */
export function readTexts(type: TextType, signal?: AbortSignal): Promise<SavedText[]> {
  return queued('AppService.List', Urgency.Visible, signal, async () => {
    const apps = await gathered(client(AppService).list({}, limited(signal)), page => page.apps);
    const texts = apps
      .filter(app => app.type === type)
      // A damaged state hides no others.
      .map(({ id, state }) => ({ id, text: textOf(tryDecodeMap(state)) }));
    return texts.filter(({ text }) => text !== '').reverse();
  });
}

export async function readText(id: string): Promise<string> {
  const { app } = await unary(AppService.method.get, { id });
  return textOf(app && decodeMap(app.state));
}

export async function saveText(type: TextType, text: string): Promise<SavedText> {
  const { app } = await unary(AppService.method.create, { type, state: encodeCbor({ text }) });
  return { id: app?.id ?? '', text };
}

/**
 * The oldest states of pages are removed when there are too many: no reader cleans them up by hand.
 */
const KEPT_VIEWS = 200;

/** Saves the state of a page, unless it is saved already. Returns its id. */
export async function saveView(text: string): Promise<string> {
  const views = await readTexts('view');
  const known = views.find(view => view.text === text);
  if (known) return known.id;
  const { id } = await saveText('view', text);
  const old = views.slice(KEPT_VIEWS - 1);
  // Another tab may have removed one of the states; the next view removes the rest.
  await Promise.allSettled(old.map(({ id }) => removeText(id)));
  return id;
}

export async function removeText(id: string): Promise<void> {
  await unary(AppService.method.delete, { id });
}
