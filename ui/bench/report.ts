/** Text tables of figures. */
export type Row = [name: string, ...values: (number | string)[]];

export function table(heading: Row, rows: readonly Row[]): string {
  const text = (value: number | string): string =>
    typeof value === 'number' ? value.toFixed(1) : value;
  const line = ([name, ...values]: Row): string =>
    name.padEnd(34) + values.map(value => text(value).padStart(12)).join('');
  return [heading, ...rows].map(line).join('\n');
}
