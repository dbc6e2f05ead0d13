// The client with the WebSocket of the runtime itself: Bun, Deno.
import { makeTake, options, report, sleep } from "./reader.mjs";

const take = makeTake(options, report, sleep);
const socket = new WebSocket(options.url);
let closing = false;
socket.onmessage = ({ data }) => {
  if (!closing && take(data)) {
    closing = true;
    socket.close(1000);
  }
};
socket.onerror = ({ message }) => console.error(message);
socket.onclose = ({ code }) => report("closed", code);
