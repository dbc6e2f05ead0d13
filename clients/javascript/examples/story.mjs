// A handler for messages of the type `story`: a program beside the server, which tells a story about what it is given.
// usage: SECRET=… node story.mjs [PORT], and in the server's configuration:
//   [[handler]]
//   type = "story"
//   url = "http://127.0.0.1:9000/story"
//   secret = "…"
// A client asks with `await client.request("story", { about: "a lamp" })`.
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const { SECRET = "" } = process.env;
const port = Number(process.argv[2] ?? 9000);

/** Whether the server has signed the body, within the last five minutes. */
function signed({ "x-qy-lty-timestamp": time, "x-qy-lty-signature": signature = "" }, body) {
  const expected = `sha256=${createHmac("sha256", SECRET).update(`${time}.`).update(body).digest("hex")}`;
  return Math.abs(Date.now() / 1000 - Number(time)) < 300 && expected.length === signature.length
    && timingSafeEqual(Buffer.from(expected), Buffer.from(signature));
}

const server = createServer(async (request, response) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  const body = Buffer.concat(parts);
  if (!SECRET || !signed(request.headers, body)) return response.writeHead(403).end();
  const { message, user_id } = JSON.parse(body);
  const about = String(message?.about ?? "nothing").slice(0, 100);
  const story = { title: `The story of ${about}`, text: `Once upon a time there was ${about}. User ${user_id} listened to it, and slept well.` };
  response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(story));
});
server.listen(port, "127.0.0.1", () => console.log(`listening ${server.address().port}`));
