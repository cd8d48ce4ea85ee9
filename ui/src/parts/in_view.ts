type Report = (isNear: boolean, isVisible: boolean) => void;

/**
 * Returns a maker of attachments. Each attachment calls its `report` when its element comes into
 * view, or nearer to the view than `marginPx`, and when the element leaves. Reports of elements of
 * one maker at the same moment are one change of the page.
 */
export function viewObserver(
  marginPx = 0,
): (report: Report) => (element: HTMLElement) => () => void {
  const reports = new Map<Element, Report>();
  const observer = new IntersectionObserver(
    entries => {
      for (const { target, isIntersecting, boundingClientRect: own } of entries) {
        const view = (target.closest('.scroll') ?? document.body).getBoundingClientRect();
        reports.get(target)?.(isIntersecting, own.top < view.bottom && own.bottom > view.top);
      }
    },
    { scrollMargin: `${marginPx}px` },
  );
  return report => element => {
    reports.set(element, report);
    observer.observe(element);
    return () => {
      reports.delete(element);
      observer.unobserve(element);
    };
  };
}
