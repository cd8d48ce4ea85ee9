/** The projects of the server. Each has pages of its own, so another project is another document. */
import { readProjects } from '../api/projects.ts';
import { projectName, serverPath } from '../api/transport.ts';
import { ProjectState, type Project } from '../gen/matyan/project/v1/project_pb.ts';

let all = $state.raw<readonly Project[]>();

export const projects = {
  /** Those that can be opened; undefined until they are read. */
  get all(): readonly Project[] | undefined {
    return all;
  },
  get current(): Project | undefined {
    return all?.find(({ name }) => name === projectName);
  },
  /** Whether these are pages of a project that does not exist, or not any more. */
  get isUnknown(): boolean {
    return all !== undefined && !projects.current;
  },
  async read(): Promise<void> {
    all = (await readProjects()).filter(({ state }) => state !== ProjectState.DELETING);
  },
};

export function projectTitle({ name, displayName }: Project): string {
  return displayName || name || 'Default project';
}

export function projectHref(name: string): string {
  return name === '' ? serverPath : `${serverPath}p/${encodeURIComponent(name)}/`;
}
