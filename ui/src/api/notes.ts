/** Notes on runs. */
import { NoteService, type Note } from '../gen/matyan/notes/v1/notes_pb.ts';
import { Urgency } from './read_queue.ts';
import { client, gathered, limited, queued, unary } from './transport.ts';

const { method } = NoteService;
const ownerOf = (value: string) => ({ kind: { case: 'runId' as const, value } });

export function readNotes(runId: string, signal?: AbortSignal): Promise<Note[]> {
  return queued('NoteService.List', Urgency.Visible, signal, () =>
    gathered(
      client(NoteService).list({ owner: ownerOf(runId) }, limited(signal)),
      ({ notes }) => notes,
    ),
  );
}

/**
 * Creates a note, or changes a note whose text is still `before`. A note without a text is deleted.
 */
export async function saveNote(
  runId: string,
  content: string,
  before: string,
  note?: Note,
): Promise<void> {
  const owner = ownerOf(runId);
  const id = note?.id;
  // No note has time 0, so the server refuses to overwrite a text that the author has not seen.
  const ifUpdatedUs = note?.content === before ? note.updatedUs : 0n;
  if (!note) await unary(method.create, { owner, content });
  else if (content) await unary(method.update, { owner, id, content, ifUpdatedUs });
  else await unary(method.delete, { owner, id });
}
