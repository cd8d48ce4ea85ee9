/** The page that draws logged figures: Plotly and `src/figure/frame.ts` in one file, because its sandbox loads nothing. */
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';

import { transformWithOxc, type Plugin } from 'vite';

const ID = 'virtual:figure-page';
const FRAME = join(import.meta.dirname, 'src/figure/frame.ts');
const PLOTLY = createRequire(import.meta.url).resolve('plotly.js-strict-dist-min');
const DEV_PATH = '/figure.html';

/** As the server sends it, for published copies: their web servers send no policy. */
const POLICY =
  "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; font-src data:; " +
  "media-src data:; base-uri 'none'; form-action 'none'";

async function page(): Promise<string> {
  const [plotly, typed] = await Promise.all([readFile(PLOTLY, 'utf8'), readFile(FRAME, 'utf8')]);
  const { code } = await transformWithOxc(typed, FRAME);
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<title>Figure</title>
<style>html,body,#plot{height:100%;margin:0;overflow:hidden;background:transparent}</style>
<div id="plot"></div>
<script>${inElement(plotly)}</script>
<script type="module">${inElement(code)}</script>
`;
}

/** The same script without what would end its element, or begin a comment in it. */
function inElement(script: string): string {
  return script.replaceAll('</script', '<\\/script').replaceAll('<!--', '<\\!--');
}

/** Makes the address of the page the default export of `virtual:figure-page`. */
export function figurePage(): Plugin {
  let isBuild = false;
  return {
    name: 'figure-page',
    configResolved: config => void (isBuild = config.command === 'build'),
    resolveId: id => (id === ID ? `\0${ID}` : undefined),
    async load(id) {
      if (id !== `\0${ID}`) return undefined;
      if (!isBuild) return `export default ${JSON.stringify(DEV_PATH)}`;
      const file = this.emitFile({ type: 'asset', name: 'figure.html', source: await page() });
      return `export default import.meta.ROLLUP_FILE_URL_${file}`;
    },
    configureServer: server =>
      void server.middlewares.use(DEV_PATH, (_, response) => {
        response.setHeader('Content-Type', 'text/html; charset=utf-8');
        page().then(
          text => response.end(text),
          error => response.writeHead(500).end(String(error)),
        );
      }),
  };
}
