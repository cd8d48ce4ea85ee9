/** Writes the same drawing calls as SVG, for papers and slides. */
import { FONT_FAMILY, FONT_PX, HAIRLINE, TITLE_PX } from './surface.ts';
import type { Stroke, Surface, TextStyle } from './surface.ts';

export class SvgSurface implements Surface {
  readonly ratio = 1;
  #body: string[] = [];
  #clips = 0;

  constructor(
    readonly width: number,
    readonly height: number,
  ) {}

  polyline(points: Float64Array, count: number, stroke: Stroke): void {
    let path = '';
    let isGap = true;
    for (let at = 0; at < count; at++) {
      const x = points[2 * at] as number;
      const y = points[2 * at + 1] as number;
      if (Number.isNaN(x) || Number.isNaN(y)) isGap = true;
      else {
        path += isGap ? `M${short(x)} ${short(y)}h0` : `L${short(x)} ${short(y)}`;
        isGap = false;
      }
    }
    if (path) this.#path(path, stroke);
  }

  area(points: Float64Array, count: number, color: string, alpha: number): void {
    const corners = Array.from({ length: count }, (_, at) =>
      pair(points[2 * at] as number, points[2 * at + 1] as number),
    );
    this.#body.push(`<polygon points="${corners.join(' ')}"${fill(color, alpha)}/>`);
  }

  segment(x1: number, y1: number, x2: number, y2: number, stroke: Stroke): void {
    this.#path(`M${short(x1)} ${short(y1)}L${short(x2)} ${short(y2)}`, stroke);
  }

  dot(x: number, y: number, radius: number, color: string): void {
    this.#body.push(
      `<circle cx="${short(x)}" cy="${short(y)}" r="${short(radius)}"${fill(color, 1)}/>`,
    );
  }

  text(x: number, y: number, text: string, style: TextStyle): void {
    const { color, align, baseline, isTitle = false } = style;
    const anchor = { left: 'start', center: 'middle', right: 'end' }[align];
    const shift = { top: 'hanging', middle: 'central', bottom: 'auto' }[baseline];
    const place = `x="${short(x)}" y="${short(y)}" text-anchor="${anchor}" dominant-baseline="${shift}"`;
    const look = isTitle ? ` font-size="${TITLE_PX}" font-weight="600"` : '';
    this.#body.push(`<text ${place}${look} fill="${escaped(color)}">${escaped(text)}</text>`);
  }

  clipped(x: number, y: number, width: number, height: number, draw: () => void): void {
    const id = `clip${this.#clips++}`;
    const box = `x="${short(x)}" y="${short(y)}" width="${short(width)}" height="${short(height)}"`;
    this.#body.push(`<clipPath id="${id}"><rect ${box}/></clipPath><g clip-path="url(#${id})">`);
    draw();
    this.#body.push('</g>');
  }

  toString(): string {
    const size = `width="${this.width}" height="${this.height}" viewBox="0 0 ${this.width} ${this.height}"`;
    const font = `font-family="${FONT_FAMILY}" font-size="${FONT_PX}"`;
    return `<svg xmlns="http://www.w3.org/2000/svg" ${size} ${font}>${this.#body.join('')}</svg>`;
  }

  #path(path: string, { color, width, alpha = 1, dash = [] }: Stroke): void {
    const look = [
      ` stroke="${escaped(color)}" stroke-width="${width === HAIRLINE ? 1 : width}" stroke-linejoin="round"`,
      alpha === 1 ? '' : ` stroke-opacity="${alpha}"`,
      dash.length === 0 ? '' : ` stroke-dasharray="${dash.join(' ')}"`,
    ];
    this.#body.push(`<path d="${path}" fill="none"${look.join('')}/>`);
  }
}

function fill(color: string, alpha: number): string {
  return ` fill="${escaped(color)}"${alpha === 1 ? '' : ` fill-opacity="${alpha}"`}`;
}

function pair(x: number, y: number): string {
  return `${short(x)},${short(y)}`;
}

/** Hundredths of a pixel. */
function short(value: number): string {
  return String(Math.round(value * 100) / 100);
}

/** XML has no control characters, not even escaped ones, but names of runs may. */
function escaped(text: string): string {
  return text
    .replace(/[^\P{Cc}\t\n\r]/gu, '')
    .replace(/[<>&"]/g, sign => `&#${sign.charCodeAt(0)};`);
}
