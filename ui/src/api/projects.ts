/** The projects of the server, and the size of the one of this page. */
import { AdminService, type UsageResponse } from '../gen/matyan/admin/v1/admin_pb.ts';
import { ProjectService, type Project } from '../gen/matyan/project/v1/project_pb.ts';
import { Urgency } from './read_queue.ts';
import { call, client, limited, queued, serverTransport } from './transport.ts';

/** Calls about other projects are made in the default one, which always exists. */
const server = client(ProjectService, serverTransport);

export async function readProjects(): Promise<Project[]> {
  return (await call('ProjectService.List', () => server.list({}, limited()))).projects;
}

export function createProject(name: string, displayName: string): Promise<unknown> {
  return call('ProjectService.Create', () => server.create({ name, displayName }, limited()));
}

/** The content is deleted in the background; nothing else finds the project from now on. */
export function deleteProject(name: string): Promise<unknown> {
  return call('ProjectService.Delete', () => server.delete({ name }, limited()));
}

/** Changes the display name, or the description, of the project of this page. */
export function updateProject(change: { name?: string; description?: string }): Promise<unknown> {
  return call('ProjectService.Update', () => client(ProjectService).update(change, limited()));
}

export function readUsage(largestRuns: number, signal: AbortSignal): Promise<UsageResponse> {
  return queued('AdminService.Usage', Urgency.Visible, signal, () =>
    client(AdminService).usage({ largestRuns }, limited(signal)),
  );
}
