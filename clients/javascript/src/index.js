/**
 * A client of qy-lty: a WebSocket that comes back by itself, a queue with an outcome for each send, and messages that are handled once.
 * @module
 */

export { PROTOCOL } from "./address.js";
export { Chat } from "./chat.js";
export { DeviceWebSocketClient } from "./client.js";
export { RequestError } from "./outbox.js";
export { webStore } from "./storage.js";
export * from "./types.js";
