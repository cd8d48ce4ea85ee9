/** Adds a panel to a dashboard or a report, from the place where its chart was found. */
import {
  createDocument,
  readDocument,
  saveDashboard,
  updateDocument,
  type DocumentKind,
} from '../api/documents.ts';
import { ApiError } from '../api/errors.ts';
import { dashboardOf, dashboardState } from './dashboard.ts';
import { panelCode, type Panel } from './panels.ts';

/** The document that a panel is added to; without an id, a new one. */
export interface Place {
  kind: DocumentKind;
  id: string;
}

/** Adds the panel after all others. Returns the id of the document, which may be new. */
export async function addPanel({ kind, id }: Place, panel: Panel): Promise<string> {
  if (kind === 'reports') {
    const code = `${panelCode(panel)}\n`;
    if (id === '') return createDocument(kind, 'New report', code);
    const document = await readDocument(kind, id);
    const text = document.code.trimEnd();
    await updateDocument(kind, id, document, { code: text === '' ? code : `${text}\n\n${code}` });
    return id;
  }
  const own = id === '' ? await createDocument(kind, 'New dashboard', '') : id;
  const document = await readDocument(kind, own);
  if (!document.state)
    throw new ApiError(
      `Another program saved the dashboard “${document.name}”.`,
      'Adding the panel',
      'Choose another dashboard, or a new one.',
      false,
      '',
    );
  const { panels, query } = dashboardOf(document.state);
  await saveDashboard(document, dashboardState({ panels: [...panels, panel], query }));
  return own;
}
