/** Fields in which a reader writes a number. */

/**
 * The number in a field; undefined if the field is empty. A text that is no number gives way to the
 * number before, so that the field never shows what does not hold.
 */
export function numberIn(
  field: Pick<HTMLInputElement, 'value'>,
  before: number | undefined,
): number | undefined {
  const text = field.value.trim();
  const value = Number(text);
  if (text === '') return undefined;
  if (Number.isFinite(value)) return value;
  field.value = String(before ?? '');
  return before;
}
