/** Named views that the server keeps for all readers of the project, each as the state of an app. */
import { AppService, type App } from '../gen/matyan/apps/v1/apps_pb.ts';
import { isMap, tryDecodeMap } from './cbor.ts';
import { encodeCbor } from './cbor_writer.ts';
import { Urgency } from './read_queue.ts';
import { client, gathered, limited, queued, unary } from './transport.ts';

const TYPE = 'workspace';
const { method } = AppService;

export interface ViewState {
  name: string;
  /** Whether the project opens with this view. */
  isDefault: boolean;
  /** The scope as the query of an address, without a question mark. */
  scope: string;
  /** Queries of addresses with the rest of the state of each saved page, by the page. */
  pages: Readonly<Record<string, string>>;
}

export interface SavedView extends ViewState {
  id: string;
  updatedUs: bigint;
}

/** Empty for a state that another program wrote, or that is damaged: other views are shown. */
function viewOf({ id, state, updatedUs }: App): SavedView[] {
  const { name, isDefault, scope, pages } = tryDecodeMap(state) ?? {};
  if (typeof name !== 'string' || name === '' || typeof scope !== 'string' || !isMap(pages))
    return [];
  const texts = Object.entries(pages).filter(
    (entry): entry is [string, string] => typeof entry[1] === 'string',
  );
  return [
    { id, updatedUs, name, isDefault: isDefault === 1, scope, pages: Object.fromEntries(texts) },
  ];
}

function encoded({ name, isDefault, scope, pages }: ViewState): Uint8Array<ArrayBuffer> {
  return encodeCbor({ name, isDefault: isDefault ? 1 : 0, scope, pages: { ...pages } });
}

/** The oldest first. */
export function readViews(signal?: AbortSignal): Promise<SavedView[]> {
  return queued('AppService.List', Urgency.Visible, signal, async () => {
    const stream = client(AppService).list({ types: [TYPE] }, limited(signal));
    const apps = await gathered(stream, page => page.apps);
    return apps.filter(({ type }) => type === TYPE).flatMap(viewOf);
  });
}

export async function createView(view: ViewState): Promise<SavedView> {
  const { app } = await unary(method.create, { type: TYPE, state: encoded(view) });
  return { ...view, id: app?.id ?? '', updatedUs: app?.updatedUs ?? 0n };
}

/** Fails if somebody else has changed the view since it was read. */
export async function updateView(view: SavedView): Promise<SavedView> {
  const { id, updatedUs: ifUpdatedUs } = view;
  const { app } = await unary(method.update, { id, state: encoded(view), ifUpdatedUs });
  return { ...view, updatedUs: app?.updatedUs ?? 0n };
}

export async function deleteView(id: string): Promise<void> {
  await unary(method.delete, { id });
}
