/** Cells of separated values, exact to the bit. */

/** First characters of a formula. */
const FORMULA = /^[=+\-@\t\r\n＝＋－＠]/;
/** Texts that begin like a formula, but that Rust parses as numbers. */
const SIGNED_NUMBER = /^[+-](inf|infinity|nan|(\d+\.?\d*|\.\d+)(e[+-]?\d+)?)$/i;
const NEEDS_QUOTES = /[,;\t"\r\n]|^ | $/;

/** As Python writes it, which most readers of CSV understand. */
export function csvNumber(value: number | undefined): string {
  if (value === undefined) return '';
  if (Number.isFinite(value)) return Object.is(value, -0) ? '-0.0' : String(value);
  return Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf';
}

/**
 * A text as a cell that no spreadsheet runs as a formula (rule 76). The home of the rules is
 * libs/export/src/csv.rs, which also gives the reasons. The only difference is that an empty text has
 * no quotes here, because callers write missing values as empty texts.
 */
export function csvText(text: string): string {
  const isFormula = FORMULA.test(text) && !SIGNED_NUMBER.test(text);
  const defused = isFormula ? `'${text}` : text;
  return NEEDS_QUOTES.test(defused) ? `"${defused.replaceAll('"', '""')}"` : defused;
}
