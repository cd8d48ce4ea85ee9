/** Params that Matyan itself gives a run. A server sends them only to callers who ask for them. */
export const SYSTEM_PARAMS = '__system_params';

/** The params in which a run has the number of its steps. */
export const PROGRESS_PARAMS = '__progress__';

/** All of them; `__metrics__` has the goals of metrics, which belong to the project. */
export const SYSTEM_KEYS: readonly string[] = [SYSTEM_PARAMS, '__metrics__', PROGRESS_PARAMS];
