/** Hyperparameter studies and their trials. */
import { StudyService, type Study, type Trial } from '../gen/matyan/studies/v1/studies_pb.ts';
import { Urgency } from './read_queue.ts';
import { client, gathered, limited, queued, unary } from './transport.ts';

const { method } = StudyService;

export function readStudies(signal?: AbortSignal): Promise<Study[]> {
  return queued('StudyService.List', Urgency.Visible, signal, () =>
    gathered(client(StudyService).list({}, limited(signal)), ({ studies }) => studies),
  );
}

export interface StudyTrials {
  study: Study;
  /** The index of a trial is its number. */
  trials: readonly Trial[];
}

/**
 * Reads a study and its trials, without their attributes and intermediate values. Of the trials in `known`, only
 * unfinished ones are read again.
 */
export async function readTrials(
  studyId: number,
  isFinished: (trial: Trial) => boolean,
  known: readonly Trial[],
  signal?: AbortSignal,
): Promise<StudyTrials> {
  const { study } = await unary(method.get, { studyId }, signal);
  if (!study) throw new Error('the server returned no study');
  const numbers = known.filter(trial => !isFinished(trial)).map(({ number }) => number);
  // Numbers start at 0 and have no gaps, so the last known number is one less than the length.
  const after = known.length === 0 ? {} : { after: known.length - 1 };
  const request = { studyId, numbers, summary: true, ...after };
  const parts = await queued('StudyService.ListTrials', Urgency.Visible, signal, () =>
    gathered(client(StudyService).listTrials(request, limited(signal)), ({ trials }) => trials),
  );
  const trials = [...known];
  for (const [at, part] of parts.entries()) {
    // A large trial is split: further parts have the same number, and only more params.
    const isContinued = at > 0 && parts[at - 1]?.number === part.number;
    if (isContinued) trials[part.number]?.params.push(...part.params);
    else trials[part.number] = part;
  }
  return { study, trials };
}
