import { afterEach, expect, test, vi } from 'vitest';

import { readPayload } from './media.ts';
import { signIn } from './sign_in.ts';

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

/** Answers with the path and the status of the first rule that is part of the path. */
function serve(rules: Record<string, number>): string[] {
  const asked: string[] = [];
  vi.stubGlobal('fetch', async (path: string) => {
    asked.push(path);
    const status = Object.entries(rules).find(([part]) => path.includes(part))?.[1] ?? 200;
    return new Response(status === 200 ? path : JSON.stringify({ message: `it is ${status}` }), {
      status,
    });
  });
  return asked;
}

const read = async (pixels?: number): Promise<string> =>
  new TextDecoder().decode(await readPayload('a/b+c', pixels, new AbortController().signal));

const WHOLE = '/api/v1/rest/payloads/a%2Fb%2Bc';

test('an image is read reduced, and as a whole if it cannot be reduced', async () => {
  serve({});
  expect([await read(256), await read()]).toEqual([`${WHOLE}/thumbnail?size=256`, WHOLE]);
  serve({ thumbnail: 400 });
  expect(await read(256)).toBe(WHOLE);
});

test('a missing payload has no bytes, and a server that is busy is not asked for more', async () => {
  serve({ payloads: 404 });
  expect(await read(256)).toBe('');
  const asked = serve({ thumbnail: 503 });
  await expect(read(256)).rejects.toMatchObject({ where: 'The payload', canRetry: true });
  expect(asked.length).toBe(1);
});

test.each([401, 403, 421, 429])('a payload that is refused with %i says why', async status => {
  const onRefused = vi.spyOn(signIn, 'onRefused');
  for (const thumbnail of [status, 415]) {
    serve({ thumbnail, payloads: status });
    await expect(read(256)).rejects.toMatchObject({
      message: `It is ${status}.`,
      where: 'The payload',
    });
  }
  expect(onRefused.mock.calls.length > 0).toBe(status === 401);
  serve({ payloads: 413 });
  await expect(read()).rejects.toMatchObject({ message: 'It is 413.' });
});
