/** Studies of samplers, and their trials. */
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
  /** By their numbers. */
  trials: readonly Trial[];
}

/**
 * A study with the trials that a table shows. Of the trials that are known, only unfinished ones are
 * read again.
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
  // Numbers have no gaps.
  const after = known.length === 0 ? {} : { after: known.length - 1 };
  const request = { studyId, numbers, summary: true, ...after };
  const parts = await queued('StudyService.ListTrials', Urgency.Visible, signal, () =>
    gathered(client(StudyService).listTrials(request, limited(signal)), ({ trials }) => trials),
  );
  const trials = [...known];
  for (const [at, part] of parts.entries()) {
    // A large trial comes in parts that follow each other.
    const isContinued = at > 0 && parts[at - 1]?.number === part.number;
    if (isContinued) trials[part.number]?.params.push(...part.params);
    else trials[part.number] = part;
  }
  return { study, trials };
}
