/** Path of the installed Chromium, if there is one. */
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

export const CHROMIUM = ['chromium', 'chromium-browser', 'google-chrome']
  .flatMap(name => (process.env.PATH ?? '').split(delimiter).map(folder => join(folder, name)))
  .find(existsSync);
