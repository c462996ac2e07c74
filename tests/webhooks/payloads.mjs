// Prints the payloads of @octokit/webhooks-examples as events, one a line: type `github.<name>`, data = the payload as it is.
import { createRequire } from "node:module";

const groups = createRequire(import.meta.url)("@octokit/webhooks-examples/api.github.com/index.json");
for (const { name, examples } of groups) {
  for (const data of examples) {
    console.log(JSON.stringify({ type: `github.${name}`, data, metadata: { source: "github" } }));
  }
}
