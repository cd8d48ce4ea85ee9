import { readFile, readdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';

import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig, type Plugin } from 'vite';

import { figurePage } from './figure_page.ts';

/** Address of a server for `npm run dev`. */
const SERVER = process.env.MATYAN_BACKEND_URL ?? 'http://127.0.0.1:53800';

/** Prefix under which the server serves files. */
const FILES = 'static-files/';

/**
 * Adds the base of all relative URLs to the index page. The server replaces the variable with the path under which
 * a proxy exposes it, so that the same build works under every path.
 */
function baseElement(): Plugin {
  return {
    name: 'base-element',
    apply: 'build',
    transformIndexHtml: () => [
      { tag: 'base', attrs: { href: `{{ base_path }}/${FILES}` }, injectTo: 'head-prepend' },
    ],
  };
}

/** Compresses files once, so that no server has to do it for each request. */
function compressed(): Plugin {
  let folder = '';
  return {
    name: 'compressed',
    apply: 'build',
    configResolved: config => void (folder = resolve(config.root, config.build.outDir)),
    async closeBundle() {
      const names = await readdir(folder, { recursive: true });
      for (const name of names.filter(name => /^assets.*\.(js|css|svg|html)$/.test(name))) {
        const path = join(folder, name);
        await writeFile(`${path}.gz`, await promisify(gzip)(await readFile(path), { level: 9 }));
      }
    },
  };
}

export default defineConfig({
  base: './',
  plugins: [svelte(), figurePage(), baseElement(), compressed()],
  build: {
    // The first browsers with `light-dark()`: for older ones it would be replaced by variables that ignore the theme.
    target: ['chrome123', 'firefox120', 'safari17.5'],
    // Inlined files would need `data:` in the content security policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: {
    host: '127.0.0.1',
    proxy: {
      '^/(matyan\\.|api/|sign-(in|out))': {
        target: SERVER,
        // The headers of a stream arrive long before its first message; Node.js would keep them until then.
        configure: proxy =>
          void proxy.on(
            'proxyRes',
            (_, __, response) => void setImmediate(() => response.flushHeaders()),
          ),
      },
    },
  },
});
