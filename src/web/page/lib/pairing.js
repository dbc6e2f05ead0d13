// Pairing a device: by the code that it shows, typed or read by a camera.
import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { post } from "./api.js";
import { t } from "./i18n.js";
import { Field, Form } from "./ui/action.js";
import { Dialog } from "./ui/dialog.js";
import { Icon } from "./ui/icon.js";

const CODE = /\b([2-9A-HJ-NP-Z]{3})-?([2-9A-HJ-NP-Z]{3})\b/i;
const LOOK_MS = 250;

/** Whether this browser can read codes with a camera; only pages over HTTPS, or of this machine, may use one. */
export const canScan = () => "BarcodeDetector" in window && !!navigator.mediaDevices?.getUserMedia;

/**
 * Returns the code within a text that a camera has read: the code itself, or an address that ends with it.
 * @param {string} text
 * @returns {string | undefined}
 */
export function codeIn(text) {
  const found = CODE.exec(text.trim().split(/[=#/?&\s]/).findLast((part) => CODE.test(part)) ?? "");
  return found ? `${found[1]}-${found[2]}`.toUpperCase() : undefined;
}

/** Shows what the camera sees until it sees a code. @param {{onCode: (code: string) => void, onError: () => void}} props */
function Camera({ onCode, onError }) {
  const video = useRef(/** @type {HTMLVideoElement | null} */ (null));
  useEffect(() => {
    /** @type {MediaStream | undefined} */
    let stream;
    /** @type {any} */
    let timer;
    let ended = false;
    const detector = new /** @type {any} */ (window).BarcodeDetector({ formats: ["qr_code"] });
    (async () => {
      try {
        stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
        if (ended || !video.current) throw new Error("closed");
        video.current.srcObject = stream;
        await video.current.play();
        timer = setInterval(async () => {
          const seen = await detector.detect(video.current).catch(() => []);
          const code = seen.map((/** @type {any} */ one) => codeIn(one.rawValue)).find(Boolean);
          if (code && !ended) onCode(code);
        }, LOOK_MS);
      } catch {
        stream?.getTracks().forEach((track) => track.stop());
        if (!ended) onError();
      }
    })();
    return () => {
      ended = true;
      clearInterval(timer);
      stream?.getTracks().forEach((track) => track.stop());
    };
  }, []);
  return html`<video ref=${video} muted playsinline aria-label=${t("mine.camera")}></video>`;
}

/**
 * The dialog that pairs a device.
 * @param {object} props
 * @param {() => void} props.onClose
 * @param {(device: any) => any} props.onPaired gets the device
 */
export function PairDialog({ onClose, onPaired }) {
  const [scanning, setScanning] = useState(false);
  const [denied, setDenied] = useState(false);
  const input = useRef(/** @type {HTMLDivElement | null} */ (null));
  const take = (/** @type {string} */ code) => {
    const field = /** @type {HTMLInputElement | null} */ (input.current?.querySelector("[name=code]"));
    if (field) field.value = code;
    setScanning(false);
    field?.focus();
  };
  return html`<${Dialog} title=${t("mine.pair")} onClose=${onClose}>
    <div class="pair" ref=${input}>
      <p class="soft">${t("mine.pair.how")}</p>
      ${scanning && html`<${Camera} onCode=${take} onError=${() => { setScanning(false); setDenied(true); }} />`}
      ${canScan() && html`<div class="row"><button type="button" class="button quiet" aria-pressed=${scanning ? "true" : "false"} onClick=${() => { setDenied(false); setScanning(!scanning); }}>
        <${Icon} name="camera" />${t(scanning ? "mine.scan.stop" : "mine.scan")}</button>${denied && html`<span class="note bad" role="alert">${t("mine.scan.denied")}</span>`}</div>`}
      <${Form} submit=${t("mine.pair.action")} onCancel=${onClose} explain=${(/** @type {string} */ code) => (code === "not_found" ? t("mine.pair.wrong") : code === "taken" ? t("mine.pair.taken") : undefined)}
        onSubmit=${async (/** @type {any} */ { code, name, primary }) => {
          const answer = await post("/api/devices/claim", { code, ...(name && { name }), ...(primary && { primary }) });
          await onPaired(answer.data);
        }}>
        <${Field} label=${t("mine.code")} name="code" required focus input=${{ maxlength: 9, autocomplete: "off", autocapitalize: "characters", spellcheck: false, placeholder: "K7M-2PX" }} />
        <${Field} label=${t("mine.name.optional")} name="name" input=${{ maxlength: 100, autocomplete: "off" }} />
        <${Field} label=${t("mine.makePrimary")} name="primary" type="checkbox" />
      <//>
    </div>
  <//>`;
}
