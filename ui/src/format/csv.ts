/** Cells of separated values, exact to the bit. */

/** As Python writes it, which most readers of CSV understand. */
export function csvNumber(value: number | undefined): string {
  if (value === undefined) return '';
  if (Number.isFinite(value)) return Object.is(value, -0) ? '-0.0' : String(value);
  return Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf';
}

export function csvText(text: string): string {
  // A leading sign of a formula would be executed by spreadsheets.
  const safe =
    /^[=+@\t\r-]/.test(text) && Number.isNaN(Number(text)) && text !== '-inf' ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
