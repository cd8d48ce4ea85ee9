/** The client of another tracker that has logged a run. */
import { isMap, type CborValue } from '../../api/cbor.ts';

type Params = { [key: string]: CborValue };

/** Each client keeps what only it reads in params of its name, of which one is in every run. */
const CLIENTS: readonly [name: string, param: string, member: string][] = [
  ['Optuna', 'optuna', 'study_id'],
  ['W&B', 'wandb', 'project'],
  ['MLflow', 'mlflow', 'tags'],
  ['TensorBoard event files', 'tensorboard', 'path'],
];

/** The clients that have logged to a run, besides those of this project. */
export function loggedBy(params: Params): string[] {
  const isThere = ([, param, member]: (typeof CLIENTS)[number]): boolean => {
    const members = params[param];
    return isMap(members) && members[member] !== undefined;
  };
  return CLIENTS.filter(isThere).map(([name]) => name);
}
