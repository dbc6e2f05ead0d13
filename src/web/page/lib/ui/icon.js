// Icons, drawn with lines on 24 by 24.
import { html } from "../../vendor/preact.js";

/** @type {Record<string, string>} */
const PATHS = {
  overview: "M4 13h6V4H4zM14 20h6v-9h-6zM4 20h6v-3H4zM14 7h6V4h-6z",
  connections: "M5 12a7 7 0 0 1 14 0M8.5 12a3.5 3.5 0 0 1 7 0M12 12v8M9 20h6",
  users: "M9 11a4 4 0 1 0 0-8 4 4 0 0 0 0 8M2 21c0-4 3-6 7-6s7 2 7 6M16 3.5a4 4 0 0 1 0 7M18 15.5c2.5.7 4 2.5 4 5.5",
  devices: "M7 3h10a1 1 0 0 1 1 1v16a1 1 0 0 1-1 1H7a1 1 0 0 1-1-1V4a1 1 0 0 1 1-1M10 18h4",
  queues: "M3 6h18M3 12h18M3 18h10M17 18h4M19 16v4",
  messages: "M4 5h16a1 1 0 0 1 1 1v10a1 1 0 0 1-1 1h-9l-5 4v-4H4a1 1 0 0 1-1-1V6a1 1 0 0 1 1-1",
  traffic: "M7 20V5M7 5 3.5 8.5M7 5l3.5 3.5M17 4v15M17 19l-3.5-3.5M17 19l3.5-3.5",
  playground: "M5 4l14 8-14 8z",
  audit: "M6 3h9l4 4v14H6zM15 3v4h4M9 12h7M9 16h5",
  settings: "M4 7h9M17 7h3M15 5v4M4 17h3M11 17h9M9 15v4",
  docs: "M8 6l-5 6 5 6M16 6l5 6-5 6M13.5 4l-3 16",
  account: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8M4 21c0-4 3.5-6 8-6s8 2 8 6",
  clients: "M3 5h12v9H3zM7 18h4M9 14v4M17 9h4v11h-6v-4",
  close: "M6 6l12 12M18 6L6 18",
  menu: "M4 7h16M4 12h16M4 17h16",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14M16 16l4.5 4.5",
  plus: "M12 5v14M5 12h14",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  check: "M5 12.5l4.5 4.5L19 7.5",
  trash: "M4 7h16M10 4h4M6 7l1 13h10l1-13M10 11v5M14 11v5",
  bell: "M6 17V11a6 6 0 0 1 12 0v6l1.5 1.5h-15zM10 21h4",
  camera: "M4 7h3.5L9 5h6l1.5 2H20v12H4zM12 16.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7",
  star: "M12 3.5l2.6 5.4 5.9.8-4.3 4.1 1 5.9-5.2-2.8-5.2 2.8 1-5.9-4.3-4.1 5.9-.8z",
  key: "M15 12a4.5 4.5 0 1 0-4.2-3L4 15.8V20h4v-2.5h2.5V15l1.7-1.7A4.5 4.5 0 0 0 15 12M16 8h.01",
  edit: "M5 19h3.5L19 8.5 15.5 5 5 15.5zM13 7.5l3.5 3.5",
  out: "M14 4h5v16h-5M10 8l-4 4 4 4M6 12h9",
  refresh: "M19 6v5h-5M5 18v-5h5M6.5 9a6.5 6.5 0 0 1 11-2l1.5 4M17.5 15a6.5 6.5 0 0 1-11 2L5 13",
  pause: "M8 5v14M16 5v14",
  play: "M7 5l12 7-12 7z",
  download: "M12 4v11M7.5 11l4.5 4.5 4.5-4.5M5 20h14",
  send: "M4 12l16-8-6 16-3-7z",
  warning: "M12 4l9 16H3zM12 10v4M12 17h.01",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8M12 2v2M12 20v2M4.9 4.9l1.4 1.4M17.7 17.7l1.4 1.4M2 12h2M20 12h2M4.9 19.1l1.4-1.4M17.7 6.3l1.4-1.4",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5",
  language: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18M3 12h18M12 3c3 3 3 15 0 18M12 3c-3 3-3 15 0 18",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  in: "M12 4v13M6.5 11.5L12 17l5.5-5.5M5 21h14",
  up: "M12 20V7M6.5 12.5L12 7l5.5 5.5M5 3h14",
};

/**
 * An icon; decoration, since what it stands beside says the same.
 * @param {{name: string}} props
 */
export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false"><path d=${PATHS[name] ?? PATHS.more} /></svg>`;
}
