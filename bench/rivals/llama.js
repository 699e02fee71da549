// The rival's side: llama.cpp through the addon of the npm package node-llama-cpp, its own functions and nothing around
// them. Started with the addon's path and a GGUF file's; takes a line of JSON for each call and answers with one.
"use strict";
const path = require("node:path");
const readline = require("node:readline");

const [addonPath, modelPath] = process.argv.slice(1);

async function open() {
  const addon = require(addonPath);
  addon.setLogger(() => {});
  addon.loadBackends();
  addon.loadBackends(path.dirname(addonPath));
  await addon.init();
  const model = new addon.AddonModel(modelPath, {addonExports: addon, gpuLayers: 0, useMmap: true});
  if (!await model.init()) throw new Error("the model was not loaded");
  return {addon, model};
}

// A call reads the same prompt in every sequence, then goes on greedily, all sequences in one batch for each token.
async function call({addon, model}, {sequences, prompt, output, threads, flash, sample}) {
  const batchSize = 512;
  const context = new addon.AddonContext(model, {
    contextSize: Math.ceil((prompt.length + output) / 256) * 256 * sequences,
    batchSize, sequences, threads, flashAttention: flash,
  });
  if (!await context.init()) throw new Error("no context");
  context.setThreads(threads);
  const all = Array.from({length: sequences}, (_, sequence) => sequence);
  const pick = (index, sampler) => sample ? context.sampleToken(index, sampler) : 1;

  // Warm up, and forget it.
  context.initBatch(1);
  context.addToBatch(0, 0, new Uint32Array([prompt[0]]), new Uint32Array([0]));
  await context.decodeBatch();
  context.disposeSequence(0);

  const samplers = all.map(() => {
    const sampler = new addon.AddonSampler(model);
    sampler.applyConfig({temperature: 0});
    return sampler;
  });
  const answers = all.map(() => []);
  const start = performance.now();
  for (const sequence of all) {
    for (let at = 0; at < prompt.length; at += batchSize) {
      const part = prompt.slice(at, at + batchSize);
      const last = at + part.length === prompt.length;
      context.initBatch(part.length);
      const logits = context.addToBatch(sequence, at, new Uint32Array(part), new Uint32Array(last ? [part.length - 1] : []));
      await context.decodeBatch();
      if (last) answers[sequence].push(await pick(logits[0], samplers[sequence]));
    }
  }
  const read = performance.now();
  for (let i = 1; i < output; i++) {
    context.initBatch(sequences);
    const logits = all.map((sequence) =>
      context.addToBatch(sequence, prompt.length + i - 1, new Uint32Array([answers[sequence][i - 1]]), new Uint32Array([0]))[0]);
    await context.decodeBatch();
    for (const sequence of all) answers[sequence].push(await pick(logits[sequence], samplers[sequence]));
  }
  const end = performance.now();
  samplers.forEach((sampler) => sampler.dispose());
  await context.dispose();
  return {prefill_seconds: (read - start) / 1000, decode_seconds: (end - read) / 1000, answers: sample ? answers : null};
}

(async () => {
  try {
    const rival = await open();
    console.log(JSON.stringify({ready: rival.addon.systemInfo()}));
    for await (const line of readline.createInterface({input: process.stdin})) {
      console.log(JSON.stringify(await call(rival, JSON.parse(line))));
    }
    process.exit(0);
  } catch (error) {
    console.log(JSON.stringify({error: String(error && error.message || error)}));
    process.exit(1);
  }
})();
