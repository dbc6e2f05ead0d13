// QR codes, on a canvas.
import { correction, generate } from "../vendor/lean-qr.js";

/**
 * Draws the code of a text; dark on light in any theme, since some readers know no other.
 * @param {HTMLCanvasElement} canvas
 * @param {string} text
 */
export function draw(canvas, text) {
  generate(text, { minCorrectionLevel: correction.M }).toCanvas(canvas, { on: [0, 0, 0, 255], off: [255, 255, 255, 255], padX: 3, padY: 3 });
}
