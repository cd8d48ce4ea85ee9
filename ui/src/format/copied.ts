/** Numbers that are copied from the page, in a form that programs read. */

/** Without separators of thousands, and with a minus sign of ASCII: `−1 234` is `-1234`. */
export function copied(text: string): string {
  return text.replace(/(?<=\d)\u202f(?=\d)/g, '').replace(/\u2212(?=[\d.∞])/g, '-');
}

/** Replaces the text of a copy if it has such numbers. */
export function copyNumbers(event: ClipboardEvent): void {
  if (event.target instanceof HTMLInputElement || event.target instanceof HTMLTextAreaElement)
    return;
  const text = getSelection()?.toString() ?? '';
  const plain = copied(text);
  if (plain === text) return;
  event.clipboardData?.setData('text/plain', plain);
  event.preventDefault();
}
