/**
 * Moves the focus to a value of its row, or else of the chosen row, that finds other runs. Tab
 * would have too many stops.
 */
export function moveFocus(by: number): void {
  const row =
    document.activeElement?.closest('.row:not(.head)') ?? document.querySelector('.row.focused');
  const links = [...(row?.querySelectorAll<HTMLElement>('a[tabindex]') ?? [])];
  const at = links.findIndex(link => link === document.activeElement);
  links[Math.max(0, Math.min(at + by, links.length - 1))]?.focus();
}
