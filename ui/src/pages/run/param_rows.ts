/** Params as rows of a tree, next to the params of another run. */
import { isMap, type CborValue } from '../../api/cbor.ts';
import { comparable } from '../../format/value.ts';

type Params = { [key: string]: CborValue };

export interface ParamRow {
  path: string;
  segments: readonly string[];
  name: string;
  depth: number;
  /** Undefined: only the other run has it. */
  value: CborValue | undefined;
  other: CborValue | undefined;
  isGroup: boolean;
  isDifferent: boolean;
}

export function paramRows(
  params: Params,
  other: Params = params,
  above: readonly string[] = [],
): ParamRow[] {
  const names = [...new Set([...Object.keys(params), ...Object.keys(other)])];
  return names.flatMap(name => {
    const segments = [...above, name];
    const own = params[name];
    const others = other[name];
    const isGroup = isFilled(own) || isFilled(others);
    const row = {
      path: segments.join('.'),
      segments,
      name,
      depth: above.length,
      value: own,
      other: others,
      isGroup,
    };
    if (!isGroup) return [{ ...row, isDifferent: comparable(own) !== comparable(others) }];
    const inner = paramRows(isFilled(own) ? own : {}, isFilled(others) ? others : {}, segments);
    return [{ ...row, isDifferent: inner.some(({ isDifferent }) => isDifferent) }, ...inner];
  });
}

function isFilled(value: CborValue | undefined): value is Params {
  return isMap(value) && Object.keys(value).length > 0;
}
