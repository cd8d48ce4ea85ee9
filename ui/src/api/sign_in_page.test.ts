import { expect, test } from 'vitest';

import page from '../../../edge/src/sign_in/page.html?raw';

/** The address of a browser after the page of the server has run its script there. */
function shownAddress(address: string): string {
  const script = /<script>([^]*)<\/script>/.exec(page)![1]!;
  const location = new URL(address, 'http://host');
  let shown = address;
  const history = { replaceState: (_: unknown, __: string, to: string) => (shown = to) };
  const element = (): object => ({ value: '', hidden: false, textContent: '' });
  const document = { getElementById: element, querySelector: element };
  const names = ['location', 'history', 'document', 'addEventListener'];
  new Function(...names, script)(location, history, document, () => {});
  return shown;
}

test('the answer of a provider and the secret of a link do not stay in the address', () => {
  for (const [address, shown] of [
    ['/sign-in/callback?code=c&state=s&iss=i', '/sign-in'],
    ['/matyan/sign-in/callback?error=access_denied&state=s', '/matyan/sign-in'],
    ['/p/speech/sign-in?next=%2Fruns#mtl_abc', '/p/speech/sign-in?next=%2Fruns'],
    ['/sign-in?reason=ended', '/sign-in?reason=ended'],
    ['/sign-in?next=%2Fsign-in%2Fcallback', '/sign-in?next=%2Fsign-in%2Fcallback'],
  ] as const)
    expect(shownAddress(address)).toBe(shown);
});
