/** Numbers as people read them. The exact value is always one hover away. */

const SIGNIFICANT_DIGITS = 5;
const SMALLEST_PLAIN = 1e-4;
const LARGEST_PLAIN = 1e7;

/**
 * Formats a number: integers in full, other numbers with `digits` significant digits, very small
 * and large numbers with an exponent and one digit less.
 */
export function readable(value: number | bigint, digits = SIGNIFICANT_DIGITS): string {
  if (typeof value === 'bigint') return grouped(value.toString());
  if (!Number.isFinite(value)) return exact(value);
  if (Number.isSafeInteger(value)) return grouped(String(value));
  return rounded(value, isPlain(value) ? digits : digits - 1);
}

const LOGGED_DIGITS = 6;

/**
 * Formats a param as a program would write it: an id has no separators, and Python reads what is
 * copied from the page.
 */
export function logged(value: number | bigint): string {
  if (typeof value === 'bigint' || !Number.isFinite(value) || Number.isSafeInteger(value))
    return exact(value);
  return String(Number(value.toPrecision(LOGGED_DIGITS)));
}

/**
 * Formats a number for a column of numbers of similar size: zeros at the end stay, so that decimal
 * points line up.
 */
export function aligned(value: number | bigint): string {
  const isFraction = typeof value === 'number' && isPlain(value) && !Number.isInteger(value);
  return isFraction && Math.abs(value) < 1e4
    ? grouped(value.toPrecision(SIGNIFICANT_DIGITS))
    : readable(value);
}

/** Numbers of this size are written without an exponent. */
function isPlain(value: number): boolean {
  const size = Math.abs(value);
  return size === 0 || (size >= SMALLEST_PLAIN && size < LARGEST_PLAIN);
}

function rounded(value: number, digits: number): string {
  if (isPlain(value)) return grouped(String(Number(value.toPrecision(digits))));
  const [fraction = '', exponent = ''] = value.toExponential(digits - 1).split('e');
  return withMinus(`${Number(fraction)}e${exponent.replace('+', '')}`);
}

export function exact(value: number | bigint): string {
  if (typeof value === 'bigint') return value.toString();
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? '∞' : '−∞';
  return Object.is(value, -0) ? '-0' : String(value);
}

/** The difference to a base in per cent, such as `+3.2 %`; empty if it has none. */
export function percentChange(value: number, base: number): string {
  const percent = (100 * (value - base)) / Math.abs(base);
  if (!Number.isFinite(percent)) return '';
  const size = Math.abs(percent);
  const text =
    size >= 1000 ? rounded(Math.round(size), SIGNIFICANT_DIGITS) : size.toFixed(size < 10 ? 1 : 0);
  return `${percent > 0 ? '+' : percent < 0 ? '−' : '±'}${text} %`;
}

/** Sizes of files: `812 B`, `4.2 kB`, `1.3 GB`. */
export function bytes(size: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const unit = Math.min(Math.floor(Math.log10(Math.max(size, 1)) / 3), units.length - 1);
  const value = size / 1000 ** unit;
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** Integers of this size are ticks with an exponent if a few digits distinguish them. */
const LARGE_TICK = 1e9;

/** Labels of ticks: with enough decimals that neighbors differ. */
export function tickLabels(ticks: number[]): string[] {
  const gaps = ticks.slice(1).map((tick, at) => Math.abs(tick - (ticks[at] as number)));
  const gap = Math.min(...gaps, Infinity);
  return ticks.map(tick => {
    const digits = Math.ceil(Math.log10(Math.abs(tick) / gap)) + 1;
    const isExact = Number.isSafeInteger(tick) && (Math.abs(tick) < LARGE_TICK || digits > 4);
    if (isExact || !Number.isFinite(gap)) return readable(tick);
    return rounded(tick, Math.min(Math.max(digits, 1), 15));
  });
}

function grouped(text: string): string {
  const [whole = '', fraction] = text.split('.');
  const separated = whole.replace(/\B(?=(\d{3})+$)/g, '\u202f');
  return withMinus(fraction === undefined ? separated : `${separated}.${fraction}`);
}

function withMinus(text: string): string {
  return text.replace(/^-/, '−').replace('e-', 'e−');
}
