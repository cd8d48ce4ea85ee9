/** The clients that have logged a run. */
import { isMap, type CborValue } from '../../api/cbor.ts';

/** Start of the names of the clients of this project. */
const OWN = 'matyan-';

/**
 * The client of another tracker that has made a run, as a list of runs names it: without its
 * version. Most runs are made by the clients of this project, which are not named.
 */
export function foreignClient(client: string): string {
  return client.startsWith(OWN) ? '' : client.replace(/ [^ ]*$/, '');
}

type Params = { [key: string]: CborValue };

/**
 * Each client keeps what only it reads in params of its name, and one of these params is in every
 * run.
 */
const CLIENTS: readonly [name: string, param: string, member: string][] = [
  ['Optuna', 'optuna', 'study_id'],
  ['W&B', 'wandb', 'project'],
  ['MLflow', 'mlflow', 'tags'],
  ['TensorBoard', 'tensorboard', 'path'],
];

/**
 * The client that has made a run, with its version, and the clients of other trackers that have
 * logged to the run, or to its original if it is imported.
 */
export function loggedBy(client: string, params: Params): string[] {
  const isThere = ([, param, member]: (typeof CLIENTS)[number]): boolean => {
    const members = params[param];
    return isMap(members) && members[member] !== undefined;
  };
  const others = CLIENTS.filter(isThere).map(([name]) => name);
  return client === '' ? others : [client, ...others.filter(name => !client.startsWith(name))];
}
