/** The other side of raw TCP, in a thread of its own: takes what a client says that it sends, or sends what the client asks for. */
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { parentPort } from "node:worker_threads";

/** A client's first eight bytes: how many bytes it sends, or, negative, wants. */
const headBytes = 8;
const block = Buffer.alloc(512 * 1024);

async function serve(socket: Socket): Promise<void> {
  let [head, left] = [Buffer.alloc(0), Infinity];
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    let rest: Buffer = chunk;
    if (head.length < headBytes) {
      head = Buffer.concat([head, rest]);
      if (head.length < headBytes) continue;
      left = Number(head.readBigInt64BE());
      rest = head.subarray(headBytes);
    }
    left -= rest.length;
    if (left <= 0) break;
  }
  if (left === 0) socket.write("k");
  for (; left < 0; left += block.length) {
    if (!socket.write(block.subarray(0, Math.min(block.length, -left)))) await once(socket, "drain");
  }
  socket.end();
}

const server = createServer((socket) => void serve(socket));
server.listen(0, "127.0.0.1", () => {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread has no origin
  parentPort?.postMessage((server.address() as { port: number }).port);
});
