/** Path of the installed Chromium, if there is one. Its build without windows needs less of the processor. */
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

export const CHROMIUM = ['chromium-headless-shell', 'chromium', 'chromium-browser', 'google-chrome']
  .flatMap(name => (process.env.PATH ?? '').split(delimiter).map(folder => join(folder, name)))
  .find(existsSync);
