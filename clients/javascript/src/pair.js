import { address } from "./address.js";

/**
 * Waits, and returns early where the signal is aborted.
 * @param {number} seconds The time.
 * @param {AbortSignal} [signal] The signal.
 */
const sleep = (seconds, signal) => /** @type {Promise<void>} */ (new Promise((resolve) => {
  const done = () => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", done);
    resolve();
  };
  const timer = setTimeout(done, seconds * 1000);
  signal?.addEventListener("abort", done);
}));

/**
 * Gets a token for a device without a keyboard: shows a code, and waits until its owner has entered it. A code that has expired
 * is replaced by a new one.
 * @param {object} options The device.
 * @param {string} options.baseUrl The server.
 * @param {string} [options.name] Its name.
 * @param {string} [options.serial] Its serial.
 * @param {string} [options.model] Its model.
 * @param {(code: string, expiresIn: number) => void} options.onCode Shows a code; called again with each new one. `expiresIn` in seconds.
 * @param {AbortSignal} [options.signal] Ends the pairing.
 * @returns {Promise<string>} The device's token. Rejects where the signal is aborted, and with an `Error` where the server refuses the device.
 */
export async function pair({ baseUrl, name, serial, model, onCode, signal }) {
  const device = { name, serial, model };
  /** @type {{device_code: string} | undefined} */
  let open;
  for (let failures = 0; ; ) {
    signal?.throwIfAborted();
    /** @type {{code: string, expires_in: number} | undefined} */
    let shown;
    let wait = Math.min(60, 2 ** failures) * (0.5 + Math.random() / 2);
    try {
      const limit = AbortSignal.timeout(20000);
      const response = await fetch(`${address(baseUrl, "http")}/api/devices/pair`, {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(open ?? device), signal: limit,
      });
      const { data, message } = await response.json();
      if (data?.token) return data.token;
      if (response.ok) {
        failures = 0;
        wait = data.interval;
        if (data.code) {
          open = { device_code: data.device_code };
          shown = data;
        }
      } else if (response.status === 410) {
        open = undefined;
        wait = 1;
      } else if (response.status < 500 && response.status !== 429 && response.status !== 408) {
        throw new PairingError(message);
      } else {
        failures++;
        wait = Math.max(wait, Math.min(3600, Number(response.headers.get("retry-after")) || 0));
      }
    } catch (error) {
      if (error instanceof PairingError) throw error;
      failures++;
    }
    if (shown) onCode(shown.code, shown.expires_in);
    await sleep(wait, signal);
  }
}

class PairingError extends Error {}
