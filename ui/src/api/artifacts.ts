/** Files of runs. */
import type { Artifact } from '../gen/matyan/artifacts/v1/artifact_pb.ts';
import { ArtifactService } from '../gen/matyan/artifacts/v1/artifacts_pb.ts';
import { joined } from './bytes.ts';
import { Urgency } from './read_queue.ts';
import { client, gathered, limited, queued } from './transport.ts';

export function readArtifacts(runId: string, signal?: AbortSignal): Promise<Artifact[]> {
  return queued('ArtifactService.List', Urgency.Visible, signal, () =>
    gathered(client(ArtifactService).list({ runId }, limited(signal)), ({ artifacts }) => artifacts),
  );
}

/** Reads a file, or its first bytes. Without a deadline: large files take as long as they take. */
export function readArtifact(
  runId: string,
  path: string,
  length?: number,
  signal?: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  const range = length === undefined ? {} : { length: BigInt(length) };
  return queued('ArtifactService.Get', Urgency.Visible, signal, async () => {
    const pieces = client(ArtifactService).get({ runId, path, ...range }, { signal });
    return joined(await gathered(pieces, ({ message }) => (message.case === 'chunk' ? [message.value] : [])));
  });
}

export function readZip(runId: string, signal?: AbortSignal): Promise<Blob> {
  return queued('ArtifactService.Zip', Urgency.Visible, signal, async () => {
    const pieces = client(ArtifactService).zip({ runId }, { signal });
    const all = await gathered(pieces, ({ chunk }) => [new Uint8Array(chunk)]);
    return new Blob(all, { type: 'application/zip' });
  });
}
