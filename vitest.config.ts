import { defineConfig } from "vitest/config";

/**
 * `fast` needs a nats-server and nothing else; `e2e` needs Python and g++ as well, and takes minutes; `cipher` builds
 * firmware with ESPHome's libraries for encryption, which come from the registry of PlatformIO; `containers` runs the images of
 * deploy/ and needs root, Debian's docker.io and debootstrap.
 */
export default defineConfig({
  test: {
    // Most tests wait for processes and disks more than they compute.
    maxWorkers: "100%",
    projects: [
      {
        test: {
          name: "fast",
          include: ["test/**/*.test.ts"],
          exclude: ["test/end-to-end/**", "test/cipher/**", "test/containers/**", "node_modules/**"],
          testTimeout: 30_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: "e2e",
          include: ["test/end-to-end/**/*.test.ts"],
          testTimeout: 300_000,
          hookTimeout: 600_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: "cipher",
          include: ["test/cipher/**/*.test.ts"],
          testTimeout: 300_000,
          hookTimeout: 600_000,
        },
      },
      {
        test: {
          name: "containers",
          include: ["test/containers/**/*.test.ts"],
          testTimeout: 300_000,
          hookTimeout: 600_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
