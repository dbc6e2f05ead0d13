// Keeps the page's files, so that it opens without a server, says so, and goes on when the server is back. Nothing of the API is kept.
// The server is asked first, always: what is kept is shown only when it does not answer.

const CACHE = "qy-lty-page-1";
const HOME = new URL("./", self.location).href;
const FILES = new URL("page/", HOME).href;
/** The server's answers depend on headers of the request; what is kept is there for any. */
const KEPT = { ignoreVary: true };
/** A server that has not answered after so long is taken for gone. */
const ANSWER_MS = 4000;

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(caches.open(CACHE).then((cache) => cache.add(new Request(HOME, { headers: { Accept: "text/html" } }))).catch(() => {}));
});

self.addEventListener("activate", (event) => {
  event.waitUntil(Promise.all([
    self.clients.claim(),
    caches.keys().then((names) => Promise.all(names.filter((name) => name.startsWith("qy-lty-page-") && name !== CACHE).map((name) => caches.delete(name)))),
  ]));
});

// The page names the files that it had loaded before this worker was there.
self.addEventListener("message", (event) => {
  const wanted = event.data?.keep;
  if (!Array.isArray(wanted)) return;
  const files = wanted.filter((url) => typeof url === "string" && url.startsWith(FILES));
  event.waitUntil(caches.open(CACHE).then(async (cache) => {
    for (const file of files) {
      if (!(await cache.match(file, KEPT))) await cache.add(file).catch(() => {});
    }
  }));
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET") return;
  const front = request.mode === "navigate" && (request.url.split(/[?#]/)[0] === HOME || request.url.split(/[?#]/)[0] === new URL("docs", HOME).href);
  if (front) event.respondWith(serve(request, HOME));
  else if (request.url.startsWith(FILES)) event.respondWith(serve(request, request.url));
});

/** Asks the server; keeps what it answers, or answers with what was kept. */
async function serve(request, key) {
  const cache = await caches.open(CACHE);
  try {
    const response = await fetch(request, { signal: AbortSignal.timeout(ANSWER_MS) });
    if (response.ok) await cache.put(key, response.clone());
    // A proxy that has lost the server answers in its place.
    if (response.status < 502 || response.status > 504) return response;
    return (await cache.match(key, KEPT)) ?? response;
  } catch (error) {
    const kept = await cache.match(key, KEPT);
    if (kept) return kept;
    throw error;
  }
}
