// The client with ws.
import WebSocket from "ws";
import { makeTake, options, report, sleep } from "./reader.mjs";

const take = makeTake(options, report, sleep);
const socket = new WebSocket(options.url);
let closing = false;
socket.on("message", (data) => {
  if (!closing && take(data.toString())) {
    closing = true;
    socket.close(1000);
  }
});
socket.on("error", (error) => console.error(error));
socket.on("close", (code) => report("closed", code));
