/** The projects of the server, and the size of the project of this page. */
import { AdminService, type UsageResponse } from '../gen/matyan/admin/v1/admin_pb.ts';
import { ProjectService, type Project } from '../gen/matyan/project/v1/project_pb.ts';
import { SystemService } from '../gen/matyan/system/v1/system_pb.ts';
import { serverTransport as server, unary } from './transport.ts';

// Calls about other projects are made in the default project, which always exists.
const { method } = ProjectService;

export async function readProjects(): Promise<Project[]> {
  return (await unary(method.list, {}, undefined, server)).projects;
}

export function createProject(name: string, displayName: string): Promise<unknown> {
  return unary(method.create, { name, displayName }, undefined, server);
}

/** The content is deleted in the background; nothing else finds the project from now on. */
export function deleteProject(name: string): Promise<unknown> {
  return unary(method.delete, { name }, undefined, server);
}

/** Changes the display name, or the description, of the project of this page. */
export function updateProject(change: { name?: string; description?: string }): Promise<unknown> {
  return unary(method.update, change);
}

export function readUsage(largestRuns: number, signal: AbortSignal): Promise<UsageResponse> {
  return unary(AdminService.method.usage, { largestRuns }, signal);
}

export async function readServerVersion(signal: AbortSignal): Promise<string> {
  return (await unary(SystemService.method.version, {}, signal, server)).version;
}
