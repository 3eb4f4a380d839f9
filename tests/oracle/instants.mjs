// Checks what Instants.java printed against a third implementation: npm install temporal-polyfill, then
// node instants.mjs < instants.txt
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { Temporal } from "temporal-polyfill";

for (const line of readFileSync(0, "utf8").trim().split("\n")) {
  const [zone, expected, ...dates] = line.split(" ");
  const hash = createHash("sha256");
  for (const date of dates) {
    for (const days of [-1, 0, 1]) {
      const midnight = Temporal.PlainDate.from(date).add({ days }).toPlainDateTime();
      for (let minutes = 0; minutes < 24 * 60; minutes += 15) {
        const at = midnight.add({ minutes }).toZonedDateTime(zone, { disambiguation: "compatible" });
        hash.update(`${at.epochMilliseconds / 1000},`);
      }
    }
  }
  if (hash.digest("hex").slice(0, 16) !== expected) {
    console.log(`differs: ${line}`);
    process.exitCode = 1;
  }
}
