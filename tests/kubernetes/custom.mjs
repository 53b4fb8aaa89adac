// Validates the kinds of KEDA and the Prometheus operator in the built overlays against their custom resource
// definitions. Those schemas let unknown fields pass, so names are looked up in the types, too.
import fs from "node:fs";
import { ScaledObject } from "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject";
import { ServiceMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor";
import YAML from "yaml";

const KINDS = { ScaledObject, ServiceMonitor };
const TYPES = {
  // Its `behavior` is that of Kubernetes' own autoscaler.
  ScaledObject: new Set([...types("@kubernetes-models/keda"), ...types("kubernetes-models/autoscaling/v2")]),
  ServiceMonitor: types("@kubernetes-models/prometheus-operator"),
};
// Maps whose keys are free.
const FREE = new Set(["metadata", "matchLabels"]);

function types(name) {
  const text = fs
    .readdirSync(`node_modules/${name}`, { recursive: true })
    .filter((file) => file.endsWith(".d.ts"))
    .map((file) => fs.readFileSync(`node_modules/${name}/${file}`, "utf8"))
    .join("\n");
  return new Set(Array.from(text.matchAll(/"(\w+)"\??:/g), (match) => match[1]));
}

function unknown(value, names) {
  if (Array.isArray(value)) return value.flatMap((element) => unknown(element, names));
  if (value === null || typeof value !== "object") return [];
  return Object.entries(value).flatMap(([key, inner]) =>
    FREE.has(key) ? [] : [...(names.has(key) ? [] : [key]), ...unknown(inner, names)],
  );
}

function faults(document) {
  const names = TYPES[document.kind];
  const found = unknown(document.spec, names).map((key) => `unknown field ${key}`);
  try {
    new KINDS[document.kind](document).validate();
  } catch (error) {
    found.push(error.message);
  }
  return found;
}

let passed = 0;
let failed = 0;
for (const path of process.argv.slice(2)) {
  for (const parsed of YAML.parseAllDocuments(fs.readFileSync(path, "utf8"))) {
    const document = parsed.toJSON();
    if (!document || !(document.kind in KINDS)) continue;
    const found = faults(document);
    found.forEach((fault) => console.log(`${path}: ${document.kind}: ${fault}`));
    if (found.length) failed += 1;
    else passed += 1;
    for (const spec of [{ ...document.spec, triggerz: [] }, { ...document.spec, triggers: 1, endpoints: 1 }]) {
      if (!faults({ ...document, spec }).length) throw new Error(`a wrong ${document.kind} passes`);
    }
  }
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed || !passed ? 1 : 0);
