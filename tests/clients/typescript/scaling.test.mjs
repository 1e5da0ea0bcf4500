// deploy/kubernetes/scaling.yaml against KEDA's own schema.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import test from "node:test";

import { ScaledObject } from "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject";
import { parse } from "yaml";

const read = (name) =>
  readFileSync(path.join(process.env.OBSCURA_FIXTURES, "../../deploy/kubernetes", name), "utf8");
const document = parse(read("scaling.yaml"));

test("KEDA's schema takes the scaling", () => {
  new ScaledObject(document).validate();
});

test("it would notice a wrong type", () => {
  const spec = { ...document.spec, maxReplicaCount: "eight" };
  assert.throws(() => new ScaledObject({ ...document, spec }).validate(), /maxReplicaCount/);
});

test("what is scaled is the nodes' deployment", () => {
  assert.match(read("node.yaml"), new RegExp(`kind: Deployment\\nmetadata:\\n  name: ${document.spec.scaleTargetRef.name}\\n`));
});
