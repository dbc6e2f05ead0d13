// The command line and the output that all clients of this directory share; README.md describes them.
import { writeSync } from "node:fs";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    url: { type: "string" },
    mode: { type: "string" },
    count: { type: "string", default: "0" },
    "pause-ms": { type: "string", default: "0" },
  },
});

export const options = { url: values.url, mode: values.mode, count: Number(values.count), pauseMs: Number(values["pause-ms"]) };

export const report = (...words) => writeSync(1, `${words.join(" ")}\n`);

// Blocks the whole program, as a long computation does.
export const sleep = (ms) => { if (ms > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms); };

// A function for the text of each event, which pauses as `options` asks and returns true once the client is to close. It refers to
// nothing outside of it: the browser gets its source.
export function makeTake({ mode, count, pauseMs }, report, sleep) {
  let received = 0;
  let pending = Infinity;
  return (text) => {
    const event = JSON.parse(text);
    if (event.type === "connection_status") {
      pending = event.pending;
      report("status", pending);
    }
    if ("id" in event) {
      received += 1;
      report("id", event.id);
      if (mode === "slow" || (mode === "block" && received === count)) sleep(pauseMs);
    }
    if (mode === "close") return received >= pending;
    return mode === "drain" && count > 0 && received >= count;
  };
}
