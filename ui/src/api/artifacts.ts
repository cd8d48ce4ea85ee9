/** Files of runs. */
import type { Artifact } from '../gen/matyan/artifacts/v1/artifact_pb.ts';
import { ArtifactService } from '../gen/matyan/artifacts/v1/artifacts_pb.ts';
import { joined } from './bytes.ts';
import { dataUrl, published } from './published.ts';
import { Urgency } from './read_queue.ts';
import { client, gathered, limited, queued, rootPath } from './transport.ts';

export function readArtifacts(runId: string, signal?: AbortSignal): Promise<Artifact[]> {
  return queued('ArtifactService.List', Urgency.Visible, signal, () =>
    gathered(
      client(ArtifactService).list({ runId }, limited(signal)),
      ({ artifacts }) => artifacts,
    ),
  );
}

/** Whether this page is a copy that was published without the files of its run. */
export async function artifactsAreOmitted(): Promise<boolean> {
  if (!published) return false;
  return (await import('../published/transport.ts')).artifactsAreOmitted();
}

/** Reads the first bytes of a file. */
export function readArtifact(
  runId: string,
  path: string,
  length: number,
  signal?: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  return queued('ArtifactService.Get', Urgency.Visible, signal, async () => {
    const pieces = client(ArtifactService).get(
      { runId, path, length: BigInt(length) },
      limited(signal),
    );
    return joined(
      await gathered(pieces, ({ message }) => (message.case === 'chunk' ? [message.value] : [])),
    );
  });
}

/**
 * URL of a file for the browser to save, or of all files as a ZIP archive, which may be larger than
 * the memory of a page. A published copy has no archive.
 */
export function downloadUrl(runId: string, artifact?: Pick<Artifact, 'path' | 'uri'>): string {
  const path = artifact?.path;
  if (published && artifact) return dataUrl(rootPath, artifact.uri);
  const url = `${rootPath}api/v1/rest/runs/${encodeURIComponent(runId)}/artifacts/download`;
  return path === undefined ? `${url}-all` : `${url}?path=${encodeURIComponent(path)}`;
}
