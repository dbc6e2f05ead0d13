// The client with undici, which Node itself contains too.
import { WebSocket } from "undici";
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
socket.onerror = ({ error }) => console.error(error);
socket.onclose = ({ code }) => report("closed", code);
