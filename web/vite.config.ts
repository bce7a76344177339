import { defineConfig } from "vite";

// The bundle is committed, so it stays readable and its files keep their names. Pages of other versions are no concern:
// the server that has the files also serves them.
export default defineConfig({
  base: "./",
  // Plain calls of h: the bundle is smaller and reads better than with the automatic runtime.
  oxc: {
    jsx: { runtime: "classic", pragma: "h", pragmaFrag: "Fragment" },
    jsxInject: 'import { h, Fragment } from "preact"',
  },
  server: { proxy: { "/v1": "http://127.0.0.1:8421" } },
  build: {
    outDir: "../src/trimtab/server/web",
    emptyOutDir: true,
    minify: false,
    cssMinify: false,
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    rollupOptions: {
      // Comments are in the sources; a fifteenth of the bundle.
      output: { comments: false, entryFileNames: "assets/app.js", assetFileNames: "assets/app[extname]" },
    },
  },
});
