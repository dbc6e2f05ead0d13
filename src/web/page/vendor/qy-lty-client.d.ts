export { DeviceWebSocketClient } from "../../../../clients/javascript/src/index.js";
