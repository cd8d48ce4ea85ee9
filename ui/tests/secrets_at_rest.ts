/** A search for secrets in what a server has left: its output, and the files of its data directory. */
import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';

/** Bytes of a data directory that are searched at most, in small files first. */
const MAX_BYTES = 64 << 20;

/** Tokens, sessions, links and states of a sign-in. */
const SECRET = /mt[kslo]_([0-9A-Za-z]{43})_([0-9A-Za-z]{6})/g;

const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** The text before the link's secret in the banner of the first start. */
const BEFORE_LINK = '/sign-in#';

/** CRC-32 in digits of base 62, from the most significant. */
function checksum(random: string): string {
  let rest = crc32(random);
  let digits = '';
  for (let i = 0; i < 6; i++) {
    digits = DIGITS[rest % DIGITS.length] + digits;
    rest = Math.floor(rest / DIGITS.length);
  }
  return digits;
}

/** The places of the secrets in a text, without the secrets. */
function places(text: string, where: string): { at: number; place: string }[] {
  return [...text.matchAll(SECRET)]
    .filter(([, random, given]) => checksum(random!) === given)
    .map(({ 0: secret, index: at }) => ({
      at,
      place: `${where}: a secret that begins with ${secret.slice(0, 4)} at ${at}`,
    }));
}

/** The places of an output that contain a secret. The link of the first start is printed once. */
export function secretsInOutput(output: string): string[] {
  const found = places(output, 'the output');
  const link = found.findIndex(
    ({ at }) => output.startsWith('mtl_', at) && output.slice(0, at).endsWith(BEFORE_LINK),
  );
  if (link >= 0) found.splice(link, 1);
  return found.map(({ place }) => place);
}

/** The result of reading a file; undefined if a running server has removed the file. */
async function ifPresent<T>(read: Promise<T>): Promise<T | undefined> {
  return read.catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
}

/** The places of the files in a data directory that contain a secret. */
export async function secretsInData(data: string): Promise<string[]> {
  const entries = await readdir(data, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter(entry => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name))
    // The file that is meant to contain a token.
    .filter(path => path !== join(data, 'operator-token'));
  const files = await Promise.all(
    paths.map(async path => ({ path, size: (await ifPresent(stat(path)))?.size ?? 0 })),
  );
  files.sort((a, b) => a.size - b.size);
  const found: string[] = [];
  let left = MAX_BYTES;
  for (const { path, size } of files) {
    const length = Math.min(size, left);
    left -= length;
    const file = await ifPresent(open(path));
    if (!file) continue;
    const { buffer, bytesRead } = await file.read({ buffer: Buffer.alloc(length), length });
    await file.close();
    found.push(...places(buffer.toString('latin1', 0, bytesRead), path).map(({ place }) => place));
  }
  return found;
}
