/**
 * The projects of the server. Each has its own pages, so another project is another document.
 */
import { readProjects } from '../api/projects.ts';
import { published } from '../api/published.ts';
import { projectName, serverPath } from '../api/transport.ts';
import { ProjectState, type Project } from '../gen/matyan/project/v1/project_pb.ts';

class Projects {
  /** Projects that can be opened; undefined until they are read. */
  all = $state.raw<readonly Project[]>();
  current = $derived(this.all?.find(({ name }) => name === projectName));
  /** Whether these are pages of a project that does not exist, or not any more. */
  isUnknown = $derived(this.all !== undefined && !this.current);

  async read(): Promise<void> {
    if (published) return;
    this.all = (await readProjects()).filter(({ state }) => state !== ProjectState.DELETING);
  }
}

export const projects = new Projects();

export function projectTitle({ name, displayName }: Project): string {
  return displayName || name || 'Default project';
}

export function projectHref(name: string): string {
  return name === '' ? serverPath : `${serverPath}p/${encodeURIComponent(name)}/`;
}
