import { expect, test } from 'vitest';

import { SignIn, signInUrl, type Reader } from './sign_in.ts';

const here = { pathname: '/p/speech/runs', search: '?q=a%20%3D%3D%201', hash: '#top' };

test('the sign-in page returns to the whole address', () => {
  const url = signInUrl('/matyan/', here);
  expect(url).toBe('/matyan/sign-in?next=%2Fp%2Fspeech%2Fruns%3Fq%3Da%2520%253D%253D%25201%23top');
  expect(new URL(url, 'http://host').searchParams.get('next')).toBe(
    '/p/speech/runs?q=a%20%3D%3D%201#top',
  );
});

/** A page, and the addresses to which it went. */
function openPage(): {
  signIn: SignIn;
  visited: string[];
  show: (event: { persisted: boolean }) => void;
} {
  const visited: string[] = [];
  let listener = (_: { persisted: boolean }): void => {};
  const browser = {
    location: { ...here, assign: (url: string) => visited.push(url) },
    addEventListener: (_: string, added: typeof listener) => (listener = added),
  };
  const signIn = new SignIn(() => browser as unknown as typeof globalThis);
  return { signIn, visited, show: event => listener(event) };
}

test('the secret that a link has brought is not in the address', () => {
  for (const hash of ['#mtk_abc', '#mtl_abc'])
    expect(signInUrl('/', { pathname: '/runs', search: '', hash })).toBe('/sign-in?next=%2Fruns');
});

test('a page leaves once, and again after the back button has returned to it', () => {
  const { signIn, visited, show } = openPage();
  signIn.leave('/');
  // The document was still loading.
  show({ persisted: false });
  signIn.leave('/');
  expect(visited).toEqual([
    '/sign-in?next=%2Fp%2Fspeech%2Fruns%3Fq%3Da%2520%253D%253D%25201%23top&reason=ended',
  ]);
  show({ persisted: true });
  signIn.leave('/');
  expect(visited.length).toBe(2);
});

test('a page with a reader whose token has ended stays open, and says so', () => {
  const check = (reader: Reader, hasEnded: boolean): void => {
    const { signIn, visited } = openPage();
    let ended = 0;
    signIn.onEnded = () => (ended += 1);
    signIn.onRefused('/');
    expect(ended).toBe(0);
    signIn.setReader(reader);
    expect(ended > 0, reader).toBe(hasEnded);
    signIn.onRefused('/');
    expect(ended, reader).toBe(hasEnded ? 2 : 0);
    expect(visited).toEqual([]);
  };
  check('signed-in', true);
  check('anonymous', false);
  check('unchecked', false);
});
