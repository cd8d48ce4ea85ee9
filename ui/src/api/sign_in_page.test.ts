import { expect, test } from 'vitest';

import page from '../../../edge/src/sign_in/page.html?raw';
import pageStyle from '../../../edge/src/sign_in/style.css?raw';
import style from '../styles.css?raw';

interface Shown {
  /** The address of the browser. */
  address: string;
  /** Selectors of the ways to sign in, the first one first. */
  ways: string[];
}

/** The state of a browser after the page of the server has run its script there. */
function show(address: string, hasProviders = true): Shown {
  const script = /<script>([^]*)<\/script>/.exec(page)![1]!;
  const location = new URL(address, 'http://host');
  const shown: Shown = { address, ways: hasProviders ? ['nav', '.or', '.own'] : ['.own'] };
  const history = {
    replaceState: (_: unknown, __: string, to: string) => (shown.address = to),
  };
  const element = (selector: string): object => ({
    selector,
    value: '',
    hidden: false,
    textContent: '',
    before: (...moved: { selector: string }[]) => {
      const names = moved.map(one => one.selector);
      shown.ways = shown.ways
        .filter(way => !names.includes(way))
        .flatMap(way => (way === selector ? [...names, way] : [way]));
    },
  });
  const document = {
    getElementById: element,
    querySelector: (selector: string) =>
      selector === '.help' || shown.ways.includes(selector) ? element(selector) : null,
  };
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
    expect(show(address).address).toBe(shown);
});

test('a reader with a link or a token is offered that way first', () => {
  expect(show('/sign-in').ways).toEqual(['nav', '.or', '.own']);
  for (const secret of ['#mtl_abc', '#mtk_abc']) {
    expect(show(`/p/speech/sign-in${secret}`).ways).toEqual(['.own', '.or', 'nav']);
    expect(show(`/p/speech/sign-in${secret}`, false).ways).toEqual(['.own']);
  }
});

/** The values of a color in the light and in the dark theme. */
function appColor(name: string): string[] {
  const value = new RegExp(`--${name}: ([^;]+);`).exec(style)![1]!;
  const both = /light-dark\((.+), (.+)\)/.exec(value);
  return both ? [both[1]!, both[2]!] : [value];
}

test('the page for signing in has the colors of the app', () => {
  for (const [name, ofApp] of Object.entries({
    page: 'page',
    card: 'surface',
    text: 'text',
    weak: 'text-weak',
    line: 'border',
    'strong-line': 'border-strong',
    accent: 'accent',
    fill: 'accent-fill',
    'on-fill': 'accent-text',
    bad: 'bad',
  })) {
    const values = [...pageStyle.matchAll(new RegExp(`--${name}: ([^;]+);`, 'g'))];
    expect(
      values.map(([, value]) => value),
      name,
    ).toEqual(appColor(ofApp));
  }
});
